import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { ChildId, ResetReport } from '../../protocol/calls.ts';
import type { RequestRecord } from '../../protocol/requests.ts';
import { flagBits } from '../sys/constants.ts';
import { cString } from '../sys/memory.ts';
import { listMounts, type MountRecord } from '../sys/mount.ts';
import { syscall } from '../sys/syscall.ts';
import { emptyBacking, isBackingBusy } from './backing.ts';
import type { Children } from './children.ts';
import { abortConnection, connectionExists } from './connections.ts';
import { describeProcess, stateOf, whoUses } from './forensics.ts';
import type { KernelObjects } from './kernel-objects.ts';
import { kernelTaint, type KernelLog } from './kernel-log.ts';
import { backingPath, TEST_AREA } from './places.ts';
import { freeSpareDisk, wakeSpareDisk } from './spare-disk.ts';
import { until } from './until.ts';

const BACKINGS = ['ext4', 'tmpfs'] as const;
const LOG_DEADLINE_MS = 1000;

/** What the agent knows between two resets. */
export interface TestState {
  readonly children: Children;
  readonly kernelLog: KernelLog;
  /** FUSE connections that servers have made since the last reset. */
  readonly connections: Set<number>;
  /** Logs of servers that have ended, until the next reset reports them. */
  readonly requestLogs: Map<ChildId, readonly RequestRecord[]>;
  taint: number;
  readonly objects: KernelObjects;
}

/**
 * Brings the guest back to where no test has been, and says what the last one left. The order matters: logs
 * while servers live; then processes, whose end aborts their connections; then mounts; then the question
 * whether anything still holds the backing filesystems.
 */
export async function reset(state: TestState, deadlineMs: number): Promise<ResetReport> {
  const startedAt = performance.now();
  const leftMs = (): number => Math.max(100, startedAt + deadlineMs - performance.now());
  await collectLogs(state);
  const requestLogs = [...state.requestLogs].map(([server, records]) => ({ server, records }));
  state.requestLogs.clear();
  const leftMounts = testMounts();
  const leftProcesses = state.children
    .entries()
    .filter(([, child]) => child.alive)
    .map(([, { pid, role }]) => ({ pid, role, state: stateOf(pid) }));
  await wakeSpareDisk();
  const stuck = await endProcesses(state, leftMs());
  // What has just ended may have mounted something since.
  await unmountAll(leftProcesses.length === 0 ? leftMounts : testMounts());
  const leftConnections = await endConnections(state, leftMs());
  const leftDevices = await freeSpareDisk(leftMs());
  const backingBusy = await isAnyBackingBusy(state, leftMs, stuck);
  cleanPlaces();
  const leftObjects = await state.objects.grown();
  const mask = kernelTaint();
  const newTaint = mask & ~state.taint;
  state.taint = mask;
  return {
    leftMounts: leftMounts.map(({ mountPoint, type }) => ({ mountPoint, type })),
    leftProcesses,
    backingBusy,
    leftConnections,
    leftDevices,
    taint: { mask },
    newTaint,
    kernelLog: state.kernelLog.take(),
    requestLogs,
    stuck,
    leftObjects,
    durationMs: Math.round(performance.now() - startedAt),
  };
}

/** Takes over the request log of every server that can still be asked, before they end. */
export async function collectLogs(state: TestState, only?: ChildId): Promise<void> {
  for (const [server, child] of state.children.entries()) {
    if (child.role !== 'server' || !child.alive || (only !== undefined && server !== only)) continue;
    // A stopped server would only cost the deadline.
    if (stateOf(child.pid) === 'T') continue;
    const answer = await child.call('log.get', {}, LOG_DEADLINE_MS).catch(() => ({ records: [] }));
    state.requestLogs.set(server, (answer as { records: RequestRecord[] }).records);
  }
}

/** Mounts of the test: below its area, or stacked below the backing filesystems. */
function testMounts(): MountRecord[] {
  const roots = [TEST_AREA, ...BACKINGS.map(backingPath)];
  return listMounts().filter(({ mountPoint }) => roots.some((root) => mountPoint.startsWith(`${root}/`)));
}

async function endProcesses(state: TestState, deadlineMs: number): Promise<string[]> {
  for (const [, child] of state.children.entries()) child.kill('SIGCONT');
  let left = await state.children.clear(Math.min(deadlineMs, 2000));
  if (left.length === 0) return [];
  // A client may wait in the kernel for a server that somebody else keeps alive.
  for (const connection of state.connections) abortConnection(connection);
  await until(() => left.every((child) => !child.alive), deadlineMs);
  left = left.filter((child) => child.alive);
  return left.map(({ pid }) => describeProcess(pid));
}

async function unmountAll(mounts: readonly MountRecord[]): Promise<void> {
  const flags = flagBits('MNT_DETACH|UMOUNT_NOFOLLOW');
  for (const { mountPoint } of mounts.toReversed()) await syscall('umount2', cString(mountPoint), flags);
}

async function endConnections(state: TestState, deadlineMs: number): Promise<number[]> {
  for (const connection of state.connections) {
    if (connectionExists(connection)) abortConnection(connection);
  }
  const left = (): number[] => [...state.connections].filter(connectionExists);
  await until(() => left().length === 0, deadlineMs);
  const remaining = left();
  state.connections.clear();
  return remaining;
}

async function isAnyBackingBusy(
  state: TestState,
  leftMs: () => number,
  notes: string[],
): Promise<boolean | null> {
  let answer: boolean | null = null;
  for (const name of BACKINGS) {
    let busy = await isBackingBusy(name, leftMs() / 2);
    if (busy === true) {
      // A process kept for the next test must not be what holds it.
      await state.children.clearIdle(leftMs());
      busy = await isBackingBusy(name, leftMs());
    }
    if (busy === true) notes.push(...whoUses(backingPath(name)).map((use) => `${name} is used by ${use}`));
    answer = busy === null ? answer : answer === true || busy;
  }
  return answer;
}

function cleanPlaces(): void {
  for (const name of BACKINGS) emptyBacking(name);
  mkdirSync(TEST_AREA, { recursive: true });
  for (const entry of readdirSync(TEST_AREA)) {
    rmSync(join(TEST_AREA, entry), { recursive: true, force: true });
  }
}
