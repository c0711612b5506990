import { stat } from 'node:fs/promises';
import type { GuestNeeds } from '#kernel/profile.ts';
import { beforeDeadline } from '#runner/lib/deadline.ts';
import { Failure } from '#runner/lib/failure.ts';
import type { Guest } from '#runner/guest/guest.ts';
import { GuestPool } from '#runner/lease/pool.ts';
import type { SavedMachine } from '#runner/machine/saved-machine.ts';
import type { MachineStates, PartContext } from '#runner/run/parts.ts';
import type { StartOptions } from '#runner/run/start-guest.ts';
import { bootAndDeploy, provedGuest } from '#runner/run/start-guest.ts';
import type { Figure } from './figure.ts';
import { atMost, figure } from './figure.ts';
import { pairedRatios } from './spread.ts';

const ROUND_TRIPS = 200;
/** What a guest gets where memory is dear. MiB. */
const SMALL_MIB = 512;
/** The unit of st_blocks (inode(7)). */
const BLOCK_BYTES = 512;
/** For a guest to panic, even on a slow machine. Milliseconds. */
const PANIC_MS = 30_000;

/** Copies of a saved machine against boots, in turn. @throws Failure as the machine states; E_BENCH_STATES. */
export async function measureMachine(
  start: StartOptions,
  abi: 'backing-id' | 'fd',
  rounds: number,
  context: PartContext,
): Promise<readonly Figure[]> {
  const quiet = { ...context, emit: (): void => undefined };
  const { states } = start.parts;
  if (states === undefined) throw new Failure('E_BENCH_STATES', 'infra', 'machines cannot be saved here');
  const { prepared, append, out } = start;
  const request = { ...prepared, append, out, abi };
  const small = { ...prepared.needs, memoryMib: SMALL_MIB };
  const { saved } = await states.save(request, quiet);
  const restores: number[] = [];
  const boots: number[] = [];
  const overPort: number[] = [];
  const overSsh: number[] = [];
  const panics: number[] = [];
  for (let round = 1; round <= rounds; round++) {
    await using stack = new AsyncDisposableStack();
    let startedAt = performance.now();
    const copy = stack.use(await states.restore(saved, { name: `copy-${round}`, out }, quiet));
    restores.push((performance.now() - startedAt) / 1000);
    overPort.push(await roundTrip(copy, context.signal));
    await stack.disposeAsync();

    await using second = new AsyncDisposableStack();
    startedAt = performance.now();
    const booted = await bootAndDeploy(start, `booted-${round}`, quiet, second);
    boots.push((performance.now() - startedAt) / 1000);
    overSsh.push(await roundTrip(booted, context.signal));
    await second.disposeAsync();
    panics.push(await panicToNext({ states, saved, out, round, needs: prepared.needs }, context));
    const times = [restores.at(-1), boots.at(-1)].map((each) => `${(each ?? 0).toFixed(1)} s`);
    context.emit({
      type: 'note',
      text: `machine, round ${round} of ${rounds}: restored ${times.join(', booted ')}`,
    });
  }
  return [
    figure('machine.restore', 'start to daemon answering, restored', 's', restores, atMost(0.8)),
    figure('machine.boot', 'start to daemon answering, booted', 's', boots),
    figure('machine.speedup', 'booted / restored', 'times', pairedRatios(boots, restores)),
    figure('machine.rpc', 'round trip to the agent over the port, median', 'ms', overPort, atMost(5)),
    figure('machine.rpc.ssh', 'round trip to the agent over SSH, median', 'ms', overSsh),
    figure('machine.panic', 'a panic of the guest to the next test running', 's', panics, atMost(2)),
    figure('machine.state', `saved state of a ${prepared.needs.memoryMib} MiB guest`, 'MB', [
      await megabytes(saved),
    ]),
    figure(
      'machine.state.small',
      `saved state of a ${SMALL_MIB} MiB guest`,
      'MB',
      [await megabytes((await states.save({ ...request, needs: small }, quiet)).saved)],
      atMost(150),
    ),
  ];
}

/** What it takes on the disk. */
async function megabytes({ state, memory }: SavedMachine): Promise<number> {
  const files = await Promise.all([state, memory].map((file) => stat(file)));
  return files.reduce((sum, { blocks }) => sum + blocks * BLOCK_BYTES, 0) / 1e6;
}

interface PanicRound {
  readonly states: MachineStates;
  readonly saved: SavedMachine;
  readonly out: string;
  readonly round: number;
  readonly needs: GuestNeeds;
}

/** From the request that makes a kernel panic until a machine of the same pool answers another test. Seconds. */
async function panicToNext(
  { states, saved, out, round, needs }: PanicRound,
  { signal }: PartContext,
): Promise<number> {
  const quiet = { emit: (): void => undefined };
  await using pool = new GuestPool({
    ...{ size: 1, signal, ...quiet, filesPerMachine: () => 1 },
    start: async (nth, ended) => {
      const context = { ...quiet, signal: ended };
      const name = `panic-${round}-${nth}`;
      return provedGuest(await states.restore(saved, { name, out }, context), needs, context);
    },
  });
  const first = await pool.acquire(signal, { file: 'panic' });
  const argv = ['sh', '-c', 'echo c >/proc/sysrq-trigger'];
  const startedAt = performance.now();
  // There is no answer to it.
  first.guest
    .call('run', { argv, timeoutMs: PANIC_MS }, { signal, timeoutMs: PANIC_MS })
    .catch(() => undefined);
  const lost = await beforeDeadline(first.guest.machine.lost, PANIC_MS, () => {
    throw new Failure('E_BENCH_STATES', 'infra', 'the guest that was to panic did not');
  });
  if (lost.blame !== 'kernel') throw lost;
  pool.discard(first);
  const next = await pool.acquire(signal, { file: 'panic' });
  await next.guest.call('kernel.mark', { text: 'the next test' }, { signal });
  const seconds = (performance.now() - startedAt) / 1000;
  pool.discard(next);
  return seconds;
}

/** Median of many, milliseconds. */
async function roundTrip(guest: Guest, signal: AbortSignal): Promise<number> {
  const times: number[] = [];
  for (let trip = 0; trip < ROUND_TRIPS; trip++) {
    const startedAt = performance.now();
    await guest.call('kernel.taint', {}, { signal });
    times.push(performance.now() - startedAt);
  }
  return times.toSorted((a, b) => a - b)[ROUND_TRIPS / 2] ?? 0;
}
