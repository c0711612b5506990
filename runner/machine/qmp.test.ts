import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import test from 'ava';
import { QmpChannel } from './qmp.ts';

// QEMU's side of the conversation, as qmp-spec has it: greeting, capabilities, answers by id, events.

type Answer = (command: { execute: string; id?: number }, say: (message: object) => void) => void;

test('QMP: an answer comes to whoever asked, a refusal with what QEMU says', async (t) => {
  await using bench = await setUp(({ execute, id }, say) => {
    if (execute === 'query-status') say({ return: { status: 'running' }, id });
    else if (id !== undefined) say({ error: { class: 'GenericError', desc: 'no such thing' }, id });
  });
  t.deepEqual(await bench.qmp.execute('query-status'), { status: 'running' });
  await t.throwsAsync(bench.qmp.execute('nonsense'), { message: 'QEMU: no such thing', code: 'E_QMP' });
});

test('QMP: a port that the guest closes is told to whoever has it', async (t) => {
  await using bench = await setUp(({ execute, id }, say) => {
    if (id !== undefined) say({ return: {}, id });
    if (execute !== 'query-status') return;
    for (const open of [true, false]) say({ event: 'VSERPORT_CHANGE', data: { id: 'one', open } });
    say({ event: 'VSERPORT_CHANGE', data: { id: 'two', open: false } });
  });
  const closed: string[] = [];
  for (const name of ['one', 'three']) bench.qmp.onPortClosed(name, () => closed.push(name));
  await bench.qmp.execute('query-status');
  await bench.qmp.execute('query-version');
  t.deepEqual(closed, ['one']);
});

test('QMP: a migration is over when QEMU says that it is completed', async (t) => {
  await using bench = await setUp(({ execute, id }, say) => {
    if (id !== undefined) say({ return: {}, id });
    if (execute !== 'migrate') return;
    for (const status of ['setup', 'active', 'completed']) say({ event: 'MIGRATION', data: { status } });
  });
  await t.notThrowsAsync(bench.qmp.migrate('migrate', 'exec:cat'));
});

test('QMP: a migration that fails, and a QEMU that goes away, are told', async (t) => {
  await using failing = await setUp(({ execute, id }, say) => {
    if (id !== undefined) say({ return: {}, id });
    if (execute === 'migrate-incoming') say({ event: 'MIGRATION', data: { status: 'failed' } });
  });
  await t.throwsAsync(failing.qmp.migrate('migrate-incoming', 'exec:cat'), { code: 'E_QMP' });
  await using dying = await setUp(({ execute, id }, say) => {
    if (execute === 'migrate') dying.hangUp();
    else if (id !== undefined) say({ return: {}, id });
  });
  await t.throwsAsync(dying.qmp.migrate('migrate', 'exec:cat'), { message: 'QEMU went away' });
  await t.throwsAsync(dying.qmp.execute('query-status'), { message: 'QEMU went away before query-status' });
});

async function setUp(answer: Answer) {
  const dir = await mkdtemp(join(tmpdir(), 'fusegate-qmp-test-'));
  const qmp = await QmpChannel.listen(join(dir, 'qmp'));
  const socket = createConnection(join(dir, 'qmp'));
  await once(socket, 'connect');
  const say = (message: object): void => void socket.write(`${JSON.stringify(message)}\n`);
  say({ QMP: { version: {}, capabilities: [] } });
  createInterface(socket).on('line', (line) => {
    answer(JSON.parse(line) as Parameters<Answer>[0], say);
  });
  return {
    qmp,
    hangUp: () => void socket.destroy(),
    async [Symbol.asyncDispose]() {
      socket.destroy();
      await qmp[Symbol.asyncDispose]();
      await rm(dir, { recursive: true, force: true });
    },
  };
}
