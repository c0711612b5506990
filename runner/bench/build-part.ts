import { rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { KernelRequest } from '#kernel/prepare-kernel.ts';
import { findBuildPlace, prepareKernel } from '#kernel/prepare-kernel.ts';
import type { Stage } from '#runner/lib/events.ts';
import { Failure } from '#runner/lib/failure.ts';
import type { PartContext } from '#runner/run/parts.ts';
import type { Figure } from './figure.ts';
import { atMost, figure } from './figure.ts';
import { oneObjectChange, type OneObjectChange } from './one-object-change.ts';
import { RawTree } from './raw-make.ts';
import { pairedRatios } from './spread.ts';

/** No new round is begun after it. Milliseconds. */
const BUDGET_MS = 150_000;

/** Of one build by the runner. Seconds. */
interface RunnerBuild {
  readonly stage: number;
  readonly whole: number;
}

/**
 * The same change to one file of the kernel, built by the runner and by make alone, in turn, with the same
 * arguments and caches, each in a tree that has built the one before.
 *
 * @throws Failure of the kernel stages, E_BENCH_BUILD (infra).
 */
export async function measureBuild(
  request: KernelRequest,
  { out, scratch }: { readonly out: string; readonly scratch: string },
  rounds: number,
  context: PartContext,
): Promise<readonly Figure[]> {
  const place = await findBuildPlace(request, { ...context, out });
  const run = Date.now().toString(36);
  const change = (name: string): Promise<OneObjectChange> =>
    oneObjectChange(place.pristine, `${run}_${name}`);
  const log = join(out, 'raw-make.log');
  // The first build of each side brings its tree to where the rounds start.
  await runnerBuild(request, await change('runner0'), out, context);
  const raw = await RawTree.copy(place, join(scratch, 'raw'), context.signal);
  await raw.make(await change('raw0'), log, context.signal);

  // That one may have taken minutes and was shown; the rounds are told as one line each.
  const quiet: PartContext = { ...context, emit: () => undefined };
  const runner: RunnerBuild[] = [];
  const make: number[] = [];
  const startedAt = performance.now();
  for (let round = 1; round <= rounds; round++) {
    if (round > 1 && performance.now() - startedAt > BUDGET_MS) {
      context.emit({ type: 'note', text: `build: out of time after ${round - 1} of ${rounds} rounds` });
      break;
    }
    const [ofRunner, ofMake] = [await change(`runner${round}`), await change(`raw${round}`)];
    const turns = [
      async () => runner.push(await runnerBuild(request, ofRunner, out, quiet)),
      async () => make.push(await raw.make(ofMake, log, context.signal)),
    ];
    for (const turn of round % 2 === 1 ? turns : turns.toReversed()) await turn();
    const text = `build, round ${round} of ${rounds}: ${(runner.at(-1)?.stage ?? 0).toFixed(1)} s, make alone ${(make.at(-1) ?? 0).toFixed(1)} s`;
    context.emit({ type: 'note', text });
  }
  const stages = runner.map(({ stage }) => stage);
  const overhead = pairedRatios(stages, make).map((ratio) => (ratio - 1) * 100);
  return [
    figure('build.stage', "the runner's build stage", 's', stages),
    figure('build.make', 'make alone', 's', make),
    figure('build.overhead', "the runner's overhead", '%', overhead, atMost(5)),
    figure(
      'build.whole',
      'all kernel stages: source, series, configuration, build',
      's',
      runner.map(({ whole }) => whole),
    ),
  ];
}

/** The image goes with its measuring: nobody will ask for it again. */
async function runnerBuild(
  request: KernelRequest,
  change: OneObjectChange,
  out: string,
  { emit, signal }: PartContext,
): Promise<RunnerBuild> {
  const series = join(out, 'one-object.patch');
  await writeFile(series, change.patch);
  const took = new Map<Stage, number>();
  const startedAt = performance.now();
  const { bzImage } = await prepareKernel(
    { ...request, series, role: 'patched' },
    {
      out,
      signal,
      emit: (event) => {
        if (event.type === 'stage-finished') took.set(event.stage, event.durationMs / 1000);
        if (event.type === 'note' || event.type === 'stage-progress') emit(event);
      },
    },
  );
  const whole = (performance.now() - startedAt) / 1000;
  await rm(dirname(bzImage), { recursive: true, force: true });
  const stage = took.get('build');
  if (stage === undefined) throw new Failure('E_BENCH_BUILD', 'infra', 'the runner built nothing');
  return { stage, whole };
}
