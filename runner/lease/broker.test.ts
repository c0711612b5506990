import { stat, readFile, mkdtemp, rm } from 'node:fs/promises';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import type { RunEvent } from '#runner/lib/events.ts';
import { Failure } from '#runner/lib/failure.ts';
import type { LeaseOutcome } from '#runner/verdict/judge-test.ts';
import type { KernelFault } from '#runner/verdict/kernel-log.ts';
import { LeaseBroker } from './broker.ts';
import { FakeGuest } from './fake-guest.ts';
import { FakeTestProcess } from './fake-test-process.ts';
import { Leases } from './leases.ts';
import type { FinishResult, MachineShare } from './messages.ts';
import { GuestPool, type PooledGuest } from './pool.ts';

test('broker: a test gets a machine, talks to its agent and gives it back', async (t) => {
  await using bench = await setUp();
  const guest = bench.guests[0];
  guest?.handlers.set('echo', (params) => params);
  await using process = await FakeTestProcess.connect(bench.broker.socketPath);
  t.deepEqual(await process.call('lease.acquire', { test: 'area/file: title' }), {
    machine: 'machine-1',
    profile: 'fake',
    abi: 'fd',
    features: { mmapPassthrough: false },
    release: '6.12.0-fake',
    accelerator: 'tcg',
    slowdown: 1,
  });
  t.deepEqual(await process.call('echo', { bytes: new Uint8Array([1, 2, 255]) }), {
    bytes: new Uint8Array([1, 2, 255]),
  });
  t.is(await process.call('nonsense'), 'unknown-method: there is no nonsense');
  t.deepEqual(await process.call('lease.finish', { passed: true }), { findings: [], evidence: [] });
  t.is(await process.call('echo'), 'no-lease: the lease is over: lease.finish was sent');
  t.deepEqual(bench.granted, ['area/file: title']);
  t.is(bench.settled.length, 1);
  t.false(guest?.disposed);
});

test('broker: the socket is only for its user', async (t) => {
  await using bench = await setUp();
  t.is((await stat(dirname(bench.broker.socketPath))).mode & 0o777, 0o700);
});

test('broker: requests run side by side and answers find their way', async (t) => {
  await using bench = await setUp();
  const gate = Promise.withResolvers<string>();
  bench.guests[0]?.handlers.set('slow', () => gate.promise);
  bench.guests[0]?.handlers.set('fast', () => 'fast');
  await using process = await FakeTestProcess.connect(bench.broker.socketPath);
  await process.call('lease.acquire', { test: 'a/b: c' });
  const slow = process.call('slow');
  t.is(await process.call('fast'), 'fast');
  gate.resolve('slow');
  t.is(await slow, 'slow');
});

test('broker: a machine on which a test failed goes on with its file, and no other file gets it', async (t) => {
  await using bench = await setUp({ filesPerMachine: 3 });
  const machines: string[] = [];
  for (const [id, passed] of [
    ['a/first: passes', true],
    ['a/second: fails', false],
    ['a/second: passes', true],
    ['a/third: passes', true],
  ] as const) {
    const lease = await leased(bench, id);
    machines.push(lease.machine);
    await lease.finish(passed);
  }
  t.deepEqual(machines, ['machine-1', 'machine-1', 'machine-1', 'machine-2']);
  t.true(bench.guests[0]?.disposed);
});

test('broker: where machines are cheap each file has one of its own, and keeps it', async (t) => {
  await using bench = await setUp({ filesPerMachine: 1 });
  const machineOf = async (id: string): Promise<unknown> => {
    await using process = await FakeTestProcess.connect(bench.broker.socketPath);
    const { machine } = (await process.call('lease.acquire', { test: id })) as { machine: string };
    await process.call('lease.finish', { passed: true });
    return machine;
  };
  t.is(await machineOf('a/first: one'), 'machine-1');
  t.is(await machineOf('a/first: two'), 'machine-1');
  t.is(await machineOf('a/second: one'), 'machine-2');
  t.true(bench.guests[0]?.disposed);
  t.false(bench.guests[1]?.disposed);
});

test('broker: while a file runs the machine of the next one is started, and none for the last file', async (t) => {
  await using bench = await setUp({ filesPerMachine: 1, files: 2 });
  t.is(bench.started, 0);
  const first = await leased(bench, 'a/first: one');
  t.is(bench.started, 2, 'its own, and the next');
  await first.finish();
  const second = await leased(bench, 'a/second: one');
  t.is(second.machine, 'machine-2');
  t.is(bench.started, 2);
  await second.finish();
});

test('broker: a machine that is lost is replaced before its test has ended', async (t) => {
  await using bench = await setUp({ filesPerMachine: 1, files: 1 });
  const first = await leased(bench, 'a/first: panics');
  t.is(bench.started, 1);
  bench.guests[0]?.lose(new Failure('E_KERNEL_PANIC', 'kernel', 'the kernel panicked'));
  await new Promise(setImmediate);
  t.is(bench.started, 2);
  await first.finish();
  const second = await leased(bench, 'a/first: goes on');
  t.is(second.machine, 'machine-2');
  t.is(bench.started, 2);
  await second.finish();
});

test('broker: a machine that could not be had in advance is tried once more, and its failure is said', async (t) => {
  const failure = new Failure('E_RESTORE', 'infra', 'not this time');
  await using bench = await setUp({
    ...{ filesPerMachine: 1, files: 2 },
    start: (nth) =>
      nth === 2 ? Promise.reject(failure) : Promise.resolve(new FakeGuest(`machine-${nth}`).pooled),
  });
  await (await leased(bench, 'a/first: one')).finish();
  const second = await leased(bench, 'a/second: one');
  t.is(second.machine, 'machine-3');
  await second.finish();
  t.true(bench.events.some((event) => event.type === 'note' && event.text.includes('not this time')));
});

test('broker: a cold machine boots for one test and serves no other', async (t) => {
  await using bench = await setUp({ filesPerMachine: 1, files: 1 });
  const ordinary = await leased(bench, 'a/file: one');
  await ordinary.finish();
  const cold = await leased(bench, 'a/file: two', 'cold');
  t.is(cold.machine, 'machine-2');
  await cold.finish();
  const next = await leased(bench, 'a/file: three');
  t.is(next.machine, 'machine-1');
  await next.finish();
  t.deepEqual(bench.colds, [false, true]);
  t.true(bench.guests[1]?.disposed);
});

test('broker: a test that wants a machine alone gets one that served nobody, and nobody gets it after', async (t) => {
  await using bench = await setUp({ filesPerMachine: 1, files: 1 });
  const machines: string[] = [];
  for (const share of ['shared', 'alone', 'alone', 'shared'] as const) {
    const lease = await leased(bench, `a/file: ${machines.length}`, share);
    machines.push(lease.machine);
    await lease.finish();
  }
  t.deepEqual(machines, ['machine-1', 'machine-2', 'machine-3', 'machine-1']);
  t.deepEqual(new Set(bench.colds), new Set([false]), 'copies of the saved machine');
  t.true(bench.guests[1]?.disposed);
  t.true(bench.guests[2]?.disposed);
});

test('broker: without lockdep a test that wants a machine alone gets one as all others do', async (t) => {
  await using bench = await setUp({ filesPerMachine: 1, files: 1, lockdep: false });
  for (const share of ['shared', 'alone', 'shared'] as const) {
    const lease = await leased(bench, `a/file: ${share}`, share);
    t.is(lease.machine, 'machine-1', share);
    await lease.finish();
  }
});

test('broker: without memory for another machine a test waits for one that is there', async (t) => {
  await using bench = await setUp({ size: 2, files: 3, filesPerMachine: 1, hasRoom: () => false });
  const first = await leased(bench, 'a/first: one');
  const second = leased(bench, 'a/second: one');
  await new Promise(setImmediate);
  t.is(bench.started, 1, 'neither for the second test nor in advance');
  await first.finish();
  await (await second).finish();
  t.deepEqual(bench.granted, ['a/first: one', 'a/second: one']);
});

test('broker: a machine with more kernel objects than before is not used again, and no test fails for it', async (t) => {
  await using bench = await setUp();
  const leftObjects = [{ name: 'fuse_inode', before: 0, now: 2 }];
  bench.guests[0]?.handlers.set('reset', () => ({ leftObjects }));
  const first = await leased(bench, 'a/file: one');
  t.deepEqual(await first.finish(), { findings: [], evidence: [] });
  t.true(bench.guests[0]?.disposed);
  t.true(
    bench.events.some((event) => event.type === 'note' && event.text.includes('fuse_inode: 2, 0 before')),
  );
});

test('broker: bad input gets an answer or the door, and costs nobody else', async (t) => {
  await using bench = await setUp();
  await using process = await FakeTestProcess.connect(bench.broker.socketPath);
  t.is(await process.call('kernel.log'), 'no-lease: send lease.acquire first');
  t.is(await process.call('lease.dance'), 'unknown-method: there is no lease.dance');
  t.regex(String(await process.call('lease.acquire', { test: 7 })), /^bad-params: /);
  await using rude = await FakeTestProcess.connect(bench.broker.socketPath);
  const closed = once(rude.socket, 'close');
  rude.socket.write(Buffer.from([0xff, 0xff, 0xff, 0xff]));
  await closed;
  t.is((await process.call('lease.acquire', { test: 'a/b: c' })) !== 'closed', true);
});

test('broker: the second test waits until the first is settled', async (t) => {
  await using bench = await setUp();
  await using first = await FakeTestProcess.connect(bench.broker.socketPath);
  await using second = await FakeTestProcess.connect(bench.broker.socketPath);
  await first.call('lease.acquire', { test: 'a/b: first' });
  const waiting = second.call('lease.acquire', { test: 'a/b: second' });
  await first.call('lease.finish', { passed: true });
  await waiting;
  t.deepEqual(bench.granted, ['a/b: first', 'a/b: second']);
  t.is(bench.started, 1);
});

test('broker: what a test leaves behind is found, kept as evidence, and costs the machine', async (t) => {
  await using bench = await setUp();
  const guest = bench.guests[0];
  guest?.handlers.set('reset', () => ({
    leftMounts: [{ mountPoint: '/area/\x1b[31mm', type: 'fuse' }],
    leftProcesses: [{ pid: 12, role: 'server', state: 'S' }],
    backingBusy: true,
    taint: { mask: 512 },
    kernelLog: [
      { level: 4, seq: 1, timeUs: 5_000_000, text: 'WARNING: CPU: 0 PID: 9 at fs/fuse/file.c:88 f+0x1/0x2' },
    ],
    requestLogs: [{ server: 1, records: [{ opcode: 'READ' }] }],
    somethingNew: true,
  }));
  await using process = await FakeTestProcess.connect(bench.broker.socketPath);
  await process.call('lease.acquire', { test: 'area/file.test.ts: left' });
  const { findings, evidence } = (await process.call('lease.finish', { passed: true })) as FinishResult;
  t.deepEqual(findings, [
    { kind: 'kernel-log', message: 'WARNING at fs/fuse/file.c:88 in f' },
    { kind: 'left-mount', message: 'a mount was left behind: mountPoint /area/m, type fuse' },
    { kind: 'left-process', message: 'a process was left behind: pid 12, role server, state S' },
    { kind: 'backing-busy', message: 'the backing filesystem cannot be unmounted: something still holds it' },
    { kind: 'taint', message: 'the kernel became tainted: W (512)' },
  ]);
  t.deepEqual(
    evidence.map(({ label }) => label),
    ['kernel log', 'FUSE requests'],
  );
  t.is(await readFile(evidence[1]?.path ?? '', 'utf8'), '{"server":1,"opcode":"READ"}\n');
  t.true(guest?.disposed);
  const fault = bench.events.find((event) => event.type === 'kernel-fault');
  t.like(fault, { kind: 'warning', test: 'area/file: left' });

  await using next = await FakeTestProcess.connect(bench.broker.socketPath);
  t.like(await next.call('lease.acquire', { test: 'area/file: next' }), { machine: 'machine-2' });
});

test('broker: a complaint of the kernel that is known is no finding, and costs the machine all the same', async (t) => {
  await using bench = await setUp({
    excuse: ({ kind, title }) => (kind === 'lockdep' ? `known: ${title}` : undefined),
  });
  const kernelLog = ['WARNING: possible recursive locking detected'];
  bench.guests[0]?.handlers.set('reset', () => ({ kernelLog }));
  const lease = await leased(bench, 'a/b: one');
  const { findings, evidence } = (await lease.finish()) as FinishResult;
  t.deepEqual(findings, []);
  t.not(evidence.length, 0);
  t.deepEqual(bench.settled[0]?.outcome.excused, [`known: ${kernelLog[0]}\n${kernelLog[0]}`]);
  t.true(bench.guests[0]?.disposed);
});

test('broker: the end of the connection is the end of the lease', async (t) => {
  await using bench = await setUp();
  const process = await FakeTestProcess.connect(bench.broker.socketPath);
  await process.call('lease.acquire', { test: 'a/b: gone' });
  process.socket.destroy();
  await using next = await FakeTestProcess.connect(bench.broker.socketPath);
  await next.call('lease.acquire', { test: 'a/b: next' });
  t.true(bench.guests[0]?.calls.includes('reset'));
  t.is(bench.settled[0]?.test, 'a/b: gone');
});

test('broker: kill -9 of a test process ends its lease', async (t) => {
  await using bench = await setUp();
  const script = `
    import { FakeTestProcess } from ${JSON.stringify(fileURLToPath(new URL('fake-test-process.ts', import.meta.url)))};
    const me = await FakeTestProcess.connect(${JSON.stringify(bench.broker.socketPath)});
    await me.call('lease.acquire', { test: 'a/b: killed' });
    console.log('leased');
    setInterval(() => {}, 1000);
  `;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    cwd: dirname(fileURLToPath(import.meta.url)),
  });
  await once(child.stdout, 'data');
  child.kill('SIGKILL');
  await using next = await FakeTestProcess.connect(bench.broker.socketPath);
  await next.call('lease.acquire', { test: 'a/b: next' });
  t.is(bench.settled[0]?.test, 'a/b: killed');
  t.false(bench.guests[0]?.disposed);
});

test('broker: a machine that is lost ends requests, and the next test gets another', async (t) => {
  await using bench = await setUp();
  const guest = bench.guests[0];
  guest?.handlers.set('hangs', () => new Promise(() => undefined));
  guest?.handlers.set('reset', () => new Promise(() => undefined));
  await using process = await FakeTestProcess.connect(bench.broker.socketPath);
  await process.call('lease.acquire', { test: 'a/b: panics' });
  const hanging = process.call('hangs');
  guest?.console.push('[    9.000000] Kernel panic - not syncing: sysrq triggered crash');
  guest?.lose(new Failure('E_KERNEL_PANIC', 'kernel', 'the kernel panicked: sysrq triggered crash'));
  t.is(await hanging, 'machine-lost: the kernel panicked: sysrq triggered crash');
  const { findings } = (await process.call('lease.finish', { passed: false })) as FinishResult;
  t.deepEqual(
    findings.map(({ kind }) => kind),
    ['machine-lost', 'kernel-log'],
  );
  t.is(bench.settled[0]?.outcome.lost?.code, 'E_KERNEL_PANIC');
  t.deepEqual(
    bench.events.filter((event) => event.type === 'kernel-fault').map((event) => event.kind),
    ['panic'],
  );
  await using next = await FakeTestProcess.connect(bench.broker.socketPath);
  t.like(await next.call('lease.acquire', { test: 'a/b: next' }), { machine: 'machine-2' });
});

test('broker: a guest that cannot be cleaned is a hang of the kernel', async (t) => {
  await using bench = await setUp({ resetDeadlineMs: 20 });
  bench.guests[0]?.handlers.set('reset', (_params, { timeoutMs }) => {
    throw new Failure('E_CALL_TIMEOUT', 'infra', `no answer within ${String(timeoutMs)} ms`);
  });
  await using process = await FakeTestProcess.connect(bench.broker.socketPath);
  await process.call('lease.acquire', { test: 'a/b: hangs' });
  await process.call('lease.finish', { passed: true });
  t.is(bench.settled[0]?.outcome.lost?.code, 'E_GUEST_HUNG');
  t.is(bench.settled[0]?.outcome.lost?.blame, 'kernel');
});

test('broker: a guest that hangs is looked at before it goes, and a slow one is told from a wedged one', async (t) => {
  await using bench = await setUp({ resetDeadlineMs: 20 });
  const [slow, wedged] = bench.guests;
  for (const guest of [slow, wedged]) {
    guest?.handlers.set('reset', () => {
      throw new Failure('E_CALL_TIMEOUT', 'infra', 'no answer');
    });
  }
  slow?.handlers.set('kernel.mark', (params) => {
    slow.console.push(`<6>${(params as { text: string }).text}`);
    return null;
  });
  slow?.handlers.set('run', () => {
    slow.console.push('sysrq: Show Blocked State', 'task:node state:D');
    return null;
  });
  for (const test of ['a/b: slow', 'a/b: wedged']) {
    await using process = await FakeTestProcess.connect(bench.broker.socketPath);
    await process.call('lease.acquire', { test });
    await process.call('lease.finish', { passed: true });
  }
  const [first, second] = bench.settled.map(({ outcome }) => outcome);
  t.regex(first?.findings[0]?.message ?? '', /still answers/);
  t.regex(second?.findings[0]?.message ?? '', /does not answer any more/);
  const read = async (label: string): Promise<string> => {
    const path = first?.evidence.find((evidence) => evidence.label === label)?.path;
    return path === undefined ? '' : readFile(path, 'utf8');
  };
  t.regex(await read('machine'), /^sysrq w, l: answered$/m);
  t.regex(await read('console'), /task:node state:D/);
});

test('broker: when no machine boots, everybody is told and nothing is tried for ever', async (t) => {
  await using bench = await setUp({
    start: () => Promise.reject(new Failure('E_BOOT_TIMEOUT', 'infra', 'the machine did not boot')),
  });
  await using first = await FakeTestProcess.connect(bench.broker.socketPath);
  t.is(await first.call('lease.acquire', { test: 'a/b: c' }), 'E_BOOT_TIMEOUT: the machine did not boot');
  t.is(bench.started, 2);
  await using second = await FakeTestProcess.connect(bench.broker.socketPath);
  t.is(await second.call('lease.acquire', { test: 'a/b: d' }), 'E_BOOT_TIMEOUT: the machine did not boot');
  t.is(bench.started, 2);
  t.is((await bench.pool.broken).code, 'E_BOOT_TIMEOUT');
});

test('broker: a kernel that never booted is not booted twice', async (t) => {
  await using bench = await setUp({
    start: () => Promise.reject(new Failure('E_BOOT_PANIC', 'kernel', 'the kernel panicked at boot')),
  });
  await using first = await FakeTestProcess.connect(bench.broker.socketPath);
  t.is(await first.call('lease.acquire', { test: 'a/b: c' }), 'E_BOOT_PANIC: the kernel panicked at boot');
  t.is(bench.started, 1);
  t.like(
    bench.events.find(({ type }) => type === 'kernel-fault'),
    {
      type: 'kernel-fault',
      kind: 'no-boot',
      title: 'the kernel panicked at boot',
    },
  );
});

test('broker: a machine that dies while nobody has it is replaced', async (t) => {
  await using bench = await setUp();
  await using first = await FakeTestProcess.connect(bench.broker.socketPath);
  await first.call('lease.acquire', { test: 'a/b: first' });
  await first.call('lease.finish', { passed: true });
  bench.guests[0]?.lose(new Failure('E_MACHINE_LOST', 'infra', 'QEMU was ended by SIGKILL'));
  await using second = await FakeTestProcess.connect(bench.broker.socketPath);
  t.like(await second.call('lease.acquire', { test: 'a/b: second' }), { machine: 'machine-2' });
  t.true(bench.guests[0]?.disposed);
});

test('broker: a skip has a reason', async (t) => {
  await using bench = await setUp();
  await using process = await FakeTestProcess.connect(bench.broker.socketPath);
  await process.call('lease.acquire', { test: 'a/b: c' });
  t.regex(String(await process.call('lease.skip', { reason: '' })), /^bad-params/);
  await process.call('lease.skip', { reason: 'needs backing ids' });
  await process.call('lease.finish', { passed: true });
  t.is(bench.settled[0]?.outcome.skipReason, 'needs backing ids');
});

test('broker: the end of the run gives guests up instead of cleaning them', async (t) => {
  await using bench = await setUp();
  bench.guests[0]?.handlers.set('reset', () => new Promise(() => undefined));
  await using process = await FakeTestProcess.connect(bench.broker.socketPath);
  await process.call('lease.acquire', { test: 'a/b: c' });
  bench.abort();
  t.like(await process.call('lease.finish', { passed: false }), {
    findings: [{ kind: 'machine-lost', message: 'interrupted' }],
  });
  t.false(bench.guests[0]?.calls.includes('reset'));
});

interface SetUpOptions {
  readonly resetDeadlineMs?: number;
  readonly start?: (nth: number) => Promise<PooledGuest>;
  readonly filesPerMachine?: number;
  readonly size?: number;
  readonly files?: number;
  readonly hasRoom?: () => boolean;
  readonly excuse?: (fault: KernelFault) => string | undefined;
  readonly lockdep?: boolean;
}

async function setUp({
  resetDeadlineMs,
  start,
  filesPerMachine = Infinity,
  size = 1,
  files,
  hasRoom,
  excuse,
  lockdep,
}: SetUpOptions = {}) {
  const out = await mkdtemp(join(tmpdir(), 'fusegate-broker-test-'));
  const guests = [1, 2, 3].map((nth) => new FakeGuest(`machine-${nth}`));
  const granted: string[] = [];
  const settled: { test: string; outcome: LeaseOutcome }[] = [];
  const events: RunEvent[] = [];
  const controller = new AbortController();
  const emit = (event: RunEvent): void => {
    events.push(event);
  };
  let started = 0;
  const colds: boolean[] = [];
  const pool = new GuestPool({
    size,
    emit,
    signal: new AbortController().signal,
    filesPerMachine: () => filesPerMachine,
    files,
    hasRoom,
    start: (nth, _signal, how) => {
      started += 1;
      colds.push(how.cold);
      return start?.(nth) ?? Promise.resolve((guests[nth - 1] ?? new FakeGuest()).pooled);
    },
  });
  const leases = new Leases({
    interface: { abi: 'fd', features: { mmapPassthrough: false } },
    pool,
    out,
    emit,
    signal: controller.signal,
    resetDeadlineMs,
    excuse,
    lockdep,
    onGranted: (id) => granted.push(id),
    onSettled: (id, outcome) => settled.push({ test: id, outcome }),
  });
  const broker = await LeaseBroker.listen(leases);
  return {
    broker,
    pool,
    guests,
    granted,
    settled,
    events,
    colds,
    get started() {
      return started;
    },
    abort: () => {
      controller.abort(new Failure('E_INTERRUPTED', 'interrupted', 'interrupted'));
    },
    async [Symbol.asyncDispose]() {
      await broker[Symbol.asyncDispose]();
      await pool[Symbol.asyncDispose]();
      await rm(out, { recursive: true, force: true });
    },
  };
}

/** A test that has its machine, until it finishes. */
async function leased(bench: Awaited<ReturnType<typeof setUp>>, id: string, share?: MachineShare) {
  const process = await FakeTestProcess.connect(bench.broker.socketPath);
  const { machine } = (await process.call('lease.acquire', { test: id, share })) as { machine: string };
  return {
    machine,
    finish: async (passed = true): Promise<unknown> => {
      const end = await process.call('lease.finish', { passed });
      await process[Symbol.asyncDispose]();
      return end;
    },
  };
}
