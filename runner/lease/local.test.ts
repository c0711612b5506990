import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { bundleDaemon } from '#rootfs/daemon/bundle.ts';
import type { ResetReport } from '#rootfs/protocol/calls.ts';
import { RpcPeer } from '#rootfs/protocol/peer.ts';
import { LocalBroker, whyNotLocal } from './local.ts';

/** The daemon as a whole, on this machine's kernel: what holds in the guest for its parts holds for them here. */

const reason = await whyNotLocal();

interface Setting {
  readonly broker: LocalBroker;
  readonly root: string;
  readonly mountPoint: string;
  readonly server: number;
  readonly client: number;
  readonly clientPid: number;
  call(method: string, params: object): Promise<Record<string, unknown>>;
  system(call: string, args: object, timeoutMs?: number): Promise<Record<string, unknown>>;
  serve(method: string, params: object): Promise<Record<string, unknown>>;
  reset(): Promise<ResetReport>;
}

/** Runs where the kernel lets it, and says why where not. */
function daemonTest(title: string, body: (t: ExecutionContext, setting: Setting) => Promise<void>): void {
  test.serial(title, async (t) => {
    if (reason !== undefined) {
      t.pass(`skipped: ${reason}`);
      t.log(`skipped: ${reason}`);
      return;
    }
    const out = await mkdtemp(join(tmpdir(), 'fusegate-test-'));
    try {
      await using broker = await LocalBroker.start((await bundleDaemon(out)).path);
      await body(t, await settingOn(broker));
    } finally {
      await rm(out, { recursive: true, force: true });
    }
  });
}

async function settingOn(broker: LocalBroker): Promise<Setting> {
  const call: Setting['call'] = async (method, params) => {
    return (await broker.call(method, params)) as Record<string, unknown>;
  };
  const { client, pid } = await call('client.start', {});
  const { server } = await call('server.start', {});
  return {
    broker,
    root: String((await call('dir.make', { in: 'ext4', name: 'root' }))['path']),
    mountPoint: String((await call('dir.make', { in: 'area', name: 'fuse' }))['path']),
    server: Number(server),
    client: Number(client),
    clientPid: Number(pid),
    call,
    // As suites write them: the agent passes these on.
    system: (name, args, timeoutMs = 5000) => call('client.call', { client, call: name, timeoutMs, args }),
    serve: (method, params) => call('server.call', { server, method, timeoutMs: 5000, params }),
    reset: async () => (await call('reset', { deadlineMs: 3000 })) as unknown as ResetReport,
  };
}

async function mounted(setting: Setting, serve: object = {}): Promise<void> {
  const { root, mountPoint } = setting;
  await setting.system('writeFile', { path: `${root}/f`, data: new Uint8Array([1, 2, 3]) });
  await setting.serve('server.mount', { mountPoint, serve: { root, passthrough: 'auto', ...serve } });
}

daemonTest('after an orderly test nothing is left', async (t, setting) => {
  await mounted(setting);
  const { value: fd } = await setting.system('open', { path: `${setting.mountPoint}/f`, flags: 'O_RDWR' });
  await setting.system('close', { fd });
  await setting.serve('log.wait', { query: { opcode: 'RELEASE' }, state: 'answered' });
  await setting.call('mounts.umount', { mountPoint: setting.mountPoint });
  await setting.call('server.kill', { server: setting.server });
  await setting.call('client.kill', { client: setting.client });

  const report = await setting.reset();
  t.deepEqual(report.leftMounts, []);
  t.deepEqual(report.leftProcesses, []);
  t.deepEqual(report.leftConnections, []);
  t.false(report.backingBusy);
  const opcodes = report.requestLogs.flatMap(({ records }) => records.map(({ opcode }) => opcode));
  t.true(opcodes.includes('RELEASE'), 'the log of a killed server is kept');
});

daemonTest('a test that forgets everything is cleaned up after, and found out', async (t, setting) => {
  await mounted(setting);
  await setting.system('open', { path: `${setting.mountPoint}/f`, flags: 'O_RDWR' });

  const report = await setting.reset();
  t.deepEqual(
    report.leftMounts.map(({ type }) => type),
    ['fuse'],
  );
  t.deepEqual(report.leftProcesses.map(({ role }) => role).sort(), ['client', 'server']);
  t.deepEqual(report.leftConnections, []);
  t.false(report.backingBusy);
  const again = await setting.reset();
  t.deepEqual([again.leftMounts, again.leftProcesses], [[], []]);
});

daemonTest('a call that blocks is reported with where it stands, and can be ended', async (t, setting) => {
  await mounted(setting);
  await setting.serve('rules.add', { rule: { match: { opcode: 'LOOKUP' }, action: { do: 'hold' } } });
  const refused = await t.throwsAsync(setting.system('stat', { path: `${setting.mountPoint}/f` }, 300));
  t.regex(refused.message, /no answer to stat in 300 ms/);
  t.regex(refused.message, /wchan \S*(fuse|request_wait)/);
  // The client itself still answers: only one of its threads waits.
  t.deepEqual(await setting.system('getpid', {}), { value: setting.clientPid });

  const report = await setting.reset();
  t.deepEqual(report.stuck, []);
  t.deepEqual(report.leftConnections, []);
});

daemonTest('a stopped server does not keep the agent from cleaning up', async (t, setting) => {
  await mounted(setting);
  await setting.call('server.kill', { server: setting.server, signal: 'SIGSTOP' });
  const blocked = setting.system('stat', { path: `${setting.mountPoint}/f` }).catch(() => 'ended');
  const report = await setting.reset();
  t.deepEqual(report.leftConnections, []);
  t.false(report.backingBusy);
  t.is(await blocked, 'ended');
});

daemonTest('a held answer is given when the test says so', async (t, setting) => {
  await mounted(setting);
  await setting.serve('rules.add', {
    rule: { match: { opcode: 'OPEN' }, times: 1, action: { do: 'hold' } },
  });
  const opening = setting.system('open', { path: `${setting.mountPoint}/f`, flags: 'O_RDONLY' });
  const held = await setting.serve('log.wait', { query: { opcode: 'OPEN' }, state: 'held' });
  await setting.serve('held.release', { seq: held['seq'], action: { do: 'error', errno: 'EUSERS' } });
  t.deepEqual(await opening, { errno: 'EUSERS' });
});

daemonTest('the backing filesystem is busy while a file is registered, and only then', async (t, setting) => {
  await mounted(setting, { passthrough: 'off' });
  const from = { path: `${setting.root}/f`, flags: 'O_RDWR' };
  const { value: id } = await setting.serve('backing.open', { from });
  t.deepEqual(await setting.call('backing.umount', { backing: 'ext4' }), { errno: 'EBUSY' });
  t.deepEqual(await setting.serve('backing.close', { id }), { value: 0 });
  t.deepEqual(await setting.call('backing.umount', { backing: 'ext4' }), { value: 0 });
  t.deepEqual(await setting.call('backing.mount', { backing: 'ext4' }), { value: 0 });
});

daemonTest('a client that dies says how', async (t, setting) => {
  await mounted(setting);
  const { value: fd } = await setting.system('open', { path: `${setting.root}/f`, flags: 'O_RDWR' });
  const how = { fd, length: 8192, prot: 'PROT_READ', flags: 'MAP_SHARED' };
  const { value: map } = await setting.system('mmap', how);
  const past = setting.system('mread', { map, offset: 4096, length: 1 });
  await t.throwsAsync(past, { message: /was ended by SIGBUS/ });
  const { client } = setting;
  t.deepEqual(await setting.call('client.wait', { client }), { code: null, signal: 'SIGBUS' });
});

daemonTest('a request in another order, or for nobody, means the same', async (t, setting) => {
  const { client, server } = setting;
  const inOrder = await setting.system('getpid', {});
  t.deepEqual(inOrder, { value: setting.clientPid });
  t.deepEqual(
    await setting.call('client.call', { args: {}, timeoutMs: 5000, call: 'getpid', client }),
    inOrder,
  );
  const braces = { path: `${setting.root}/"}}{`, flags: 'O_RDONLY' };
  t.deepEqual(await setting.system('open', braces), { errno: 'ENOENT' });
  await t.throwsAsync(setting.system('no-such-call', {}), { code: 'unknown-method' });
  const nobody = { client: 999, call: 'getpid', timeoutMs: 5000, args: {} };
  await t.throwsAsync(setting.call('client.call', nobody), { code: 'no-such-child' });
  await t.throwsAsync(setting.serve('log.wait', { query: {} }), { code: 'not-mounted' });
  await setting.call('server.kill', { server });
  await t.throwsAsync(setting.serve('log.get', {}), { code: 'child-gone' });
});

daemonTest('an answer that comes late is told once, and is no other call’s', async (t, setting) => {
  const pipe = await setting.system('pipe', {});
  const [readEnd, writeEnd] = pipe['value'] as number[];
  const read = { fd: readEnd, count: 4 };
  await t.throwsAsync(setting.system('read', read, 200), { code: 'deadline' });
  const second = setting.system('read', read);
  await setting.system('write', { fd: writeEnd, data: Buffer.from('late') });
  await setting.system('write', { fd: writeEnd, data: Buffer.from('good') });
  t.deepEqual(await second, { value: new Uint8Array(Buffer.from('good')) });
  t.deepEqual(await setting.system('getpid', {}), { value: setting.clientPid });
});

daemonTest('the end of the connection ends the lease', async (t, { broker }) => {
  const acquire = async (): Promise<{ peer: RpcPeer; end: () => void }> => {
    const socket = createConnection(broker.socketPath);
    await once(socket, 'connect');
    const peer = new RpcPeer((bytes) => socket.write(bytes));
    socket.on('data', (chunk: Buffer) => peer.receive(chunk));
    await peer.call('lease.acquire', { test: 'area/file: title' });
    return { peer, end: () => socket.destroy() };
  };
  const first = await acquire();
  await first.peer.call('server.start', {});
  const second = acquire();
  first.end();
  const { peer, end } = await second;
  const { findings } = (await peer.call('lease.finish', { passed: true })) as { findings: unknown[] };
  t.deepEqual(findings, []);
  end();
});

daemonTest(
  'a client that was disposed of serves again with nothing open, mapped or running',
  async (t, setting) => {
    const path = `${setting.root}/f`;
    await setting.system('writeFile', { path, data: new Uint8Array(4096) });
    const { value: fd } = await setting.system('open', { path, flags: 'O_RDONLY' });
    await setting.system('mmap', { fd, length: 4096, prot: 'PROT_READ', flags: 'MAP_SHARED' });
    t.deepEqual(await setting.call('client.dispose', { client: setting.client }), { kept: true });

    const { client, pid } = await setting.call('client.start', {});
    t.is(pid, setting.clientPid);
    const ask = (call: string, args: object): Promise<Record<string, unknown>> =>
      setting.call('client.call', { client, call, args, timeoutMs: 5000 });
    t.deepEqual(await ask('fstat', { fd }), { errno: 'EBADF' });
    t.deepEqual(await ask('mread', { map: 1, offset: 0, length: 1 }), { errno: 'EINVAL' });
    const { value: maps } = await ask('readFile', { path: '/proc/self/maps' });
    t.false(
      Buffer.from(maps as Uint8Array)
        .toString()
        .includes(path),
    );
  },
);

daemonTest('a client that is not as it was, or not done, is not used again', async (t, setting) => {
  const disposed = async (client: unknown): Promise<unknown> =>
    (await setting.call('client.dispose', { client }))['kept'];
  const started = async (options: object = {}): Promise<unknown> =>
    (await setting.call('client.start', options))['client'];
  const done = async (client: unknown, call: string, args: object): Promise<void> => {
    await setting.call('client.call', { client, call, args, timeoutMs: 5000 });
  };

  const elsewhere = await started();
  await done(elsewhere, 'chdir', { path: '/' });
  t.false(await disposed(elsewhere));
  const inBatch = await started();
  await done(inBatch, 'batch', { calls: [{ call: 'umask', args: { mask: 0 } }] });
  t.false(await disposed(inBatch), 'what a batch has changed is changed, too');
  const launched = await started({ launcher: ['env'] });
  await done(launched, 'getpid', {});
  t.false(await disposed(launched));
  const stopped = await started();
  await setting.call('client.kill', { client: stopped, signal: 'SIGSTOP' });
  t.false(await disposed(stopped));
  const busy = await started();
  const { value } = (await setting.call('client.call', { client: busy, call: 'pipe', args: {} })) as {
    value: number[];
  };
  const reading = setting.call('client.call', {
    client: busy,
    call: 'read',
    args: { fd: value[0], count: 1 },
  });
  t.false(await disposed(busy));
  await t.throwsAsync(reading, { code: 'child-gone' });
});

daemonTest(
  'a server that was unmounted serves the next mount, one that still serves does not',
  async (t, setting) => {
    await mounted(setting);
    await setting.call('mounts.umount', { mountPoint: setting.mountPoint });
    t.deepEqual(await setting.call('server.dispose', { server: setting.server }), { kept: true });

    const { server } = await setting.call('server.start', {});
    const serve = (method: string, params: object): Promise<Record<string, unknown>> =>
      setting.call('server.call', { server, method, params, timeoutMs: 5000 });
    t.deepEqual(await serve('log.get', {}), { records: [], lastSeq: 0 });
    const { root, mountPoint } = setting;
    await serve('server.mount', { mountPoint, serve: { root, passthrough: 'off' } });
    t.like(await serve('server.state', {}), { handles: [], held: [], ended: null });
    t.deepEqual(await setting.call('server.dispose', { server }), { kept: false });
    await setting.call('mounts.umount', { mountPoint: setting.mountPoint });
    const report = await setting.reset();
    t.deepEqual(
      report.requestLogs.map(({ records }) => records.some(({ opcode }) => opcode === 'INIT')),
      [true, true],
    );
  },
);
