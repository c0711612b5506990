import type { AgentCalls, AgentMethod, ChildId } from '#rootfs/protocol/calls.ts';
import type { PassthroughAbi, ServerCalls } from '#rootfs/protocol/server-calls.ts';
import type { SyscallName } from '#rootfs/protocol/syscalls.ts';
import type { Guest } from '#runner/guest/guest.ts';
import { findLeftovers, kernelLogLines, resetReportSchema } from '#runner/lease/reset-report.ts';
import { cleanLine } from '#runner/lib/clean-text.ts';
import { Failure } from '#runner/lib/failure.ts';
import { recogniseFaults } from '#runner/verdict/kernel-log.ts';

/** After so many rounds the daemon's code is compiled as far as a test's few calls ever get it. */
const ROUNDS = 3;
/** Before the slowdown. Milliseconds. */
const CALL_MS = 10_000;

/**
 * Does once what tests do, so that the copies of this machine need not: its servers and clients are started,
 * their code is compiled, and the files they need are in memory. What a call gives is no matter here.
 */
export async function warmUp(guest: Guest, abi: PassthroughAbi, signal: AbortSignal): Promise<void> {
  const ask = asking(guest, signal);
  for (let round = 0; round < ROUNDS; round++) await serveAndUse(ask, abi);
  await startSpares(ask);
  await clean(ask);
}

/** @param callMs deadline of each, before the slowdown. Milliseconds. */
export function asking(guest: Guest, signal: AbortSignal, callMs = CALL_MS): Ask {
  return async (method, params) => {
    return guest.call(method, params, { signal, timeoutMs: callMs * guest.slowdown });
  };
}

async function clean(ask: Ask): Promise<void> {
  const report = resetReportSchema.parse(await ask('reset', {}));
  const found = [
    ...recogniseFaults(kernelLogLines(report)).map(({ title }) => title),
    ...findLeftovers(report, 0).map(({ message }) => message),
  ];
  if (found[0] === undefined) return;
  throw new Failure('E_NOT_CLEAN', 'infra', `a first mount leaves its mark: ${cleanLine(found[0])}`);
}

/** The agent's requests with their types. */
export type Ask = <M extends AgentMethod>(
  method: M,
  params: AgentCalls[M]['params'],
) => Promise<AgentCalls[M]['result']>;

async function serveAndUse(ask: Ask, abi: PassthroughAbi): Promise<void> {
  const { path: root } = await ask('dir.make', { in: 'ext4', name: 'root' });
  const { path: mountPoint } = await ask('dir.make', { in: 'area', name: 'fuse' });
  const { server } = await ask('server.start', {});
  const options: ServerCalls['server.mount']['params'] = {
    mountPoint,
    serve: { root, passthrough: 'auto', abi },
  };
  await ask('server.call', { server, method: 'server.mount', params: options });
  const { client } = await ask('client.start', {});
  await useFile(ask, client, `${mountPoint}/file`);
  await ask('server.call', { server, method: 'log.get', params: {} });
  await ask('server.call', { server, method: 'server.state', params: {} });
  await ask('client.dispose', { client });
  await ask('mounts.umount', { mountPoint });
  await ask('server.dispose', { server });
  await clean(ask);
}

async function useFile(ask: Ask, client: ChildId, path: string): Promise<void> {
  const call = (name: SyscallName, args: object): ReturnType<typeof ask<'client.call'>> => {
    return ask('client.call', { client, call: name, args });
  };
  const data = new Uint8Array(8192);
  await call('writeFile', { path, data });
  await call('readFile', { path });
  const opened = await call('open', { path, flags: 'O_RDWR' });
  if (!('value' in opened) || typeof opened.value !== 'number') return;
  const fd = opened.value;
  await call('pwrite', { fd, data, offset: 4096 });
  await call('pread', { fd, count: 8192, offset: 0 });
  await call('fstat', { fd });
  const mapped = await call('mmap', { fd, length: 4096, prot: 'PROT_READ', flags: 'MAP_SHARED' });
  if ('value' in mapped) {
    await call('mread', { map: mapped.value, offset: 0, length: 16 });
    await call('munmap', { map: mapped.value });
  }
  await call('close', { fd });
  await call('stat', { path });
  await call('unlink', { path });
}

/** Two of each role, as the more demanding tests want them, running and idle. */
async function startSpares(ask: Ask): Promise<void> {
  const { client: one } = await ask('client.start', {});
  const { client: two } = await ask('client.start', {});
  for (const client of [one, two]) await ask('client.call', { client, call: 'getpid', args: {} });
  for (const client of [one, two]) await ask('client.dispose', { client });
  const { server: first } = await ask('server.start', {});
  const { server: second } = await ask('server.start', {});
  for (const server of [first, second])
    await ask('server.call', { server, method: 'server.info', params: {} });
  for (const server of [first, second]) await ask('server.dispose', { server });
}
