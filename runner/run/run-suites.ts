import { mkdir, readFile } from 'node:fs/promises';
import { freemem } from 'node:os';
import { join } from 'node:path';
import type { KernelImage } from '#kernel/kernel-image.ts';
import type { Profile } from '#kernel/profile.ts';
import type { Config } from '#runner/config/config.ts';
import { hasRoomForMachine } from '#runner/config/jobs.ts';
import { LeaseBroker } from '#runner/lease/broker.ts';
import { FileTurns } from '#runner/lease/file-turns.ts';
import { Leases } from '#runner/lease/leases.ts';
import { GuestPool } from '#runner/lease/pool.ts';
import { Failure } from '#runner/lib/failure.ts';
import { runStage } from '#runner/lib/stage.ts';
import type { KnownFailure } from '#runner/verdict/known-failures.ts';
import { findKnownReport, inWords, knownOf, loadKnownFailures } from '#runner/verdict/known-failures.ts';
import { FileDurations } from './file-durations.ts';
import { filesPerCopy } from './files-per-copy.ts';
import { GuestSource } from './guest-source.ts';
import { tellLeaks } from './tell-leaks.ts';
import type { PartContext, RunParts } from './parts.ts';
import type { Prepared } from './prepare.ts';
import { filesOf, runSelectedTests } from './suites.ts';
import { TestLedger } from './test-ledger.ts';

export interface SuitesRun {
  readonly config: Config;
  readonly profile: Profile;
  readonly prepared: Prepared;
  readonly parts: RunParts;
  /** Directory with package.json, ava.config.js and suites/. */
  readonly projectDir: string;
  readonly context: PartContext;
  /** Instead of suites/known-failures.json. */
  readonly known?: readonly KnownFailure[] | undefined;
  /** The tests run so often, one pass after the other on the same machines; 0 boots and runs none. Default 1. */
  readonly passes?: number | undefined;
}

/** The first machine, then the tests, then the end of every machine. */
export async function runSuites(run: SuitesRun): Promise<void> {
  const { config, context, passes = 1 } = run;
  const lockdep = await hasLockdep(run.prepared.kernel);
  await using pool = poolOf(run, lockdep);
  // The first boot stands on its own: a kernel that does not boot is told before any test is.
  pool.release(await pool.acquire(context.signal));
  // AVA takes a processor for half a second before its first test asks.
  pool.warmUp();
  for (let pass = 1; pass <= passes; pass += 1) {
    const out = passes === 1 ? config.out : join(config.out, `pass-${pass}`);
    await onePass({ ...run, config: { ...config, out } }, { pool, lockdep });
  }
}

interface Machines {
  readonly pool: GuestPool;
  /** Whether the kernel has lockdep. */
  readonly lockdep: boolean;
}

async function onePass(run: SuitesRun, { pool, lockdep }: Machines): Promise<void> {
  const { config, context, projectDir } = run;
  const suitesDir = join(projectDir, 'suites');
  await mkdir(config.out, { recursive: true });
  const { profile, prepared } = run;
  const durations = await FileDurations.load(`${profile.name}-${prepared.accelerator}`);
  const listed = run.known ?? (await loadKnownFailures(join(suitesDir, 'known-failures.json')));
  const known = knownOf(listed, { profile: profile.name, release: prepared.kernel.release });
  const today = new Date().toISOString().slice(0, 10);
  const turns = new FileTurns(config.jobs);
  const ledger = new TestLedger({
    suitesDir,
    known,
    today,
    emit: turns.watch(durations.watch(context.emit)),
  });
  const leases = new Leases({
    pool,
    turns,
    out: config.out,
    emit: context.emit,
    signal: context.signal,
    onGranted: ledger.onLeaseGranted,
    onSettled: ledger.onLeaseSettled,
    lockdep,
    interface: { abi: run.profile.abi, features: run.profile.kernelFeatures },
    excuse: (fault) => {
      const entry = findKnownReport(known, fault, today);
      return entry === undefined ? undefined : inWords(entry);
    },
    keepEvidence: config.keep,
    dumpMemory: config.dumpGuestMemory,
  });
  await runStage(
    context.emit,
    { stage: 'suites', title: 'suites', log: join(config.out, 'ava.log') },
    async () => {
      await testsWithLeases(run, { pool, leases, ledger, durations });
      await durations.save();
      return { value: undefined, cached: false, detail: `${ledger.size} tests` };
    },
  );
}

/** A kernel that came ready-made may have anything. */
async function hasLockdep({ config }: KernelImage): Promise<boolean> {
  return config === undefined || /^CONFIG_PROVE_LOCKING=y$/m.test(await readFile(config, 'utf8'));
}

function poolOf(run: SuitesRun, lockdep: boolean): GuestPool {
  const { config, profile, prepared, parts, projectDir, context, passes = 1 } = run;
  const { append, out, cold } = config;
  const { accelerator, needs } = prepared;
  const perCopy = filesPerCopy({ accelerator, leakScan: needs.leakScan, lockdep });
  const source = new GuestSource({ prepared, parts, append, out, cold, abi: profile.abi });
  return new GuestPool({
    size: config.jobs,
    emit: context.emit,
    signal: context.signal,
    start: (nth, signal, how) => source.start(`machine-${nth}`, { ...context, signal }, how),
    filesPerMachine: () => (source.restores ? perCopy : Infinity),
    files: passes * filesOf(projectDir, config.selection).length,
    hasRoom: () => hasRoomForMachine(freemem() / 2 ** 20),
    lastLook: needs.leakScan ? (guest, file) => tellLeaks(guest, file, { ...context, out }) : undefined,
  });
}

interface PassParts {
  readonly pool: GuestPool;
  readonly leases: Leases;
  readonly ledger: TestLedger;
  readonly durations: FileDurations;
}

async function testsWithLeases(
  { config, projectDir, context }: SuitesRun,
  { pool, leases, ledger, durations }: PassParts,
): Promise<void> {
  const noMachines = new AbortController();
  let broken: Failure | undefined;
  void pool.broken.then((failure) => {
    broken = failure;
    noMachines.abort(failure);
  });
  const signal = AbortSignal.any([context.signal, noMachines.signal]);
  const close = (): void => ledger.close(reasonOf(signal));
  // Before the tests that are now refused a machine can say that they failed.
  signal.addEventListener('abort', close, { once: true });
  try {
    await using broker = await LeaseBroker.listen(leases);
    await runSelectedTests({
      projectDir,
      selection: config.selection,
      jobs: config.jobs,
      expectedMs: durations.expectedMs,
      out: config.out,
      socketPath: broker.socketPath,
      ledger,
      emit: context.emit,
      signal,
    });
    if (!signal.aborted) await broker.idle();
  } finally {
    signal.removeEventListener('abort', close);
    close();
  }
  if (broken !== undefined) throw broken;
  context.signal.throwIfAborted();
}

function reasonOf({ reason }: AbortSignal): string {
  return reason instanceof Error ? reason.message : 'AVA ended before this test did';
}
