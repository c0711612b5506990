import { stat } from 'node:fs/promises';
import { Failure } from '#runner/lib/failure.ts';
import type { Guest } from '#runner/guest/guest.ts';
import type { PartContext } from '#runner/run/parts.ts';
import type { StartOptions } from '#runner/run/start-guest.ts';
import { bootAndDeploy } from '#runner/run/start-guest.ts';
import type { Figure } from './figure.ts';
import { figure } from './figure.ts';
import { pairedRatios } from './spread.ts';

const ROUND_TRIPS = 200;

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
  const { saved } = await states.save({ ...prepared, append, out, abi }, quiet);
  const restores: number[] = [];
  const boots: number[] = [];
  const overPort: number[] = [];
  const overSsh: number[] = [];
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
    const times = [restores.at(-1), boots.at(-1)].map((each) => `${(each ?? 0).toFixed(1)} s`);
    context.emit({
      type: 'note',
      text: `machine, round ${round} of ${rounds}: restored ${times.join(', booted ')}`,
    });
  }
  return [
    figure('machine.restore', 'start to daemon answering, restored', 's', restores, most(0.8)),
    figure('machine.boot', 'start to daemon answering, booted', 's', boots),
    figure('machine.speedup', 'booted / restored', 'times', pairedRatios(boots, restores)),
    figure('machine.rpc', 'round trip to the agent over the port, median', 'ms', overPort, most(5)),
    figure('machine.rpc.ssh', 'round trip to the agent over SSH, median', 'ms', overSsh),
    figure('machine.state', 'saved state of a 1 GiB guest', 'MB', [(await stat(saved.state)).size / 1e6]),
  ];
}

function most(value: number): { readonly bound: 'at most'; readonly value: number } {
  return { bound: 'at most', value };
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
