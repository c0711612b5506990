import { join } from 'node:path';
import { exactMatch } from '#runner/ava/test-id.ts';
import type { Config } from '#runner/config/config.ts';
import type { Selection } from '#runner/config/selection.ts';
import { EventBus, type Emit } from '#runner/lib/events.ts';
import { Failure } from '#runner/lib/failure.ts';
import { asFailure } from '#runner/run/as-failure.ts';
import type { Prepared } from '#runner/run/prepare.ts';
import type { SuitesRun } from '#runner/run/run-suites.ts';
import { runSuites } from '#runner/run/run-suites.ts';
import { SampleCollector } from './collect-samples.ts';
import type { Sample, Wanted } from './sample.ts';

export interface StepRun extends Omit<SuitesRun, 'context' | 'known' | 'passes'> {
  readonly prepared: Prepared;
  readonly wanted: Wanted;
  readonly times: number;
  /** Directory for logs and evidence of this step alone. */
  readonly out: string;
  readonly emit: Emit;
  readonly signal: AbortSignal;
}

/**
 * Boots one kernel and runs on it what is wanted. What the kernel does wrong is a result; what the user did wrong
 * and an interrupt are thrown.
 */
export async function runStep(step: StepRun): Promise<readonly Sample[]> {
  const { wanted, times, out, signal } = step;
  if (wanted !== 'all' && wanted.length === 0) return bootTimes(step);
  const config = configOf(step, wanted, out);
  return collected(step, signal, (context) =>
    runSuites({ ...step, config, known: [], passes: times, context }),
  );
}

async function bootTimes(step: StepRun): Promise<readonly Sample[]> {
  const samples: Sample[] = [];
  for (let boot = 1; boot <= step.times; boot += 1) {
    const config = { ...step.config, cold: true, jobs: 1, out: join(step.out, `boot-${boot}`) };
    samples.push(
      ...(await collected(step, step.signal, (context) =>
        runSuites({ ...step, config, known: [], passes: 0, context }),
      )),
    );
  }
  return samples;
}

async function collected(
  step: StepRun,
  signal: AbortSignal,
  work: (context: { emit: Emit; signal: AbortSignal }) => Promise<void>,
): Promise<readonly Sample[]> {
  const collector = new SampleCollector();
  const bus = new EventBus();
  bus.subscribe(collector.sink);
  bus.subscribe(({ at: _at, ...event }) => {
    step.emit(event);
  });
  let failure: Failure | undefined;
  try {
    await work({ emit: bus.emit, signal });
  } catch (error) {
    failure = await asFailure(error, signal);
    if (failure.code === 'E_BUG') throw error;
    if (failure.blame === 'user' || failure.blame === 'interrupted') throw failure;
  }
  return collector.end(failure);
}

/** So many tests are worth a second machine. */
const MANY = 6;

function configOf({ config, times }: StepRun, wanted: Wanted, out: string): Config {
  if (wanted === 'all') return { ...config, out };
  // Repetitions are of few tests, and shall have the machine to themselves.
  const jobs = times === 1 && wanted.length >= MANY ? config.jobs : 1;
  return { ...config, out, jobs, selection: selectionOf(wanted) };
}

/** The tests of these ids. A title that two of the files share runs in both. */
export function selectionOf(ids: readonly string[]): Selection {
  const files = new Set<string>();
  const titles = new Set<string>();
  for (const id of ids) {
    const colon = id.indexOf(': ');
    files.add(`suites/${id.slice(0, colon)}.test.ts`);
    titles.add(exactMatch(id.slice(colon + 2)));
  }
  return { files: [...files].toSorted(), match: [...titles].toSorted() };
}
