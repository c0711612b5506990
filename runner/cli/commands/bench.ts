import type { Command } from 'commander';
import { InvalidArgumentError, Option } from 'commander';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { loadProfile } from '#kernel/profile.ts';
import { bench, stockFragment } from '#runner/bench/bench.ts';
import type { PartName } from '#runner/bench/figure.ts';
import { partNames } from '#runner/bench/figure.ts';
import { writeResult } from '#runner/bench/write-result.ts';
import type { Options } from '#runner/config/config.ts';
import { EventBus } from '#runner/lib/events.ts';
import { ExitCode } from '#runner/lib/failure.ts';
import { projectRoot } from '#runner/lib/paths.ts';
import { guardRun, sweepDeadRuns } from '#runner/lib/reaper.ts';
import { listenForInterrupt } from '../interrupt.ts';
import type { Ends } from '../main.ts';
import { configOf } from '../options.ts';
import { openOutput } from '../output.ts';
import { realParts } from '../real-parts.ts';

interface BenchArguments extends Options {
  readonly rounds: number;
  readonly only?: readonly PartName[];
  readonly report?: string;
}

/**
 * Ratios against the stock tools on this machine. It is no test: the exit code says whether everything could be
 * measured (0) or not (3), not whether a target was met.
 */
export function addBenchCommand(program: Command, ends: Ends): void {
  program
    .command('bench')
    .description('measure build, boot and deploy against the stock tools')
    .option('--profile <name>', 'kernel profile')
    .option('--tree <dir>', 'a kernel tree of your own; it is never written to')
    .option('--accel <which>', 'auto, kvm or tcg')
    .option(
      '--suite <areas...>',
      'tests of the runs and gates that are measured; default: passthrough-io, and all of a gate',
    )
    .option('--out <dir>', 'directory for results', join('out', 'bench'))
    .option('--rounds <n>', 'how often each side is measured', rounds, 3)
    .addOption(
      new Option('--only <parts...>', 'measure only these').choices(
        partNames.filter((name) => name !== 'report'),
      ),
    )
    .option('--report <dir>', 'also the figures of a warm run, from its report')
    .action(async (options: BenchArguments) => ends(await runBench(options)));
}

async function runBench({ rounds: count, only, report, ...options }: BenchArguments): Promise<number> {
  const config = configOf({ ...options, config: [stockFragment] });
  const profile = await loadProfile(config.profile);
  using interrupt = listenForInterrupt((text) => process.stderr.write(text));
  using output = openOutput(config);
  const bus = new EventBus();
  for (const sink of output.sinks) bus.subscribe(sink);
  await sweepDeadRuns((text) => bus.emit({ type: 'note', text }));
  await using _guard = await guardRun();
  await mkdir(config.out, { recursive: true });
  const result = await bench(
    {
      config,
      profile,
      parts: realParts,
      program: join(projectRoot, 'runner', 'cli', 'fusegate.js'),
      rounds: count,
      only: [...(only ?? partNames), 'report'],
      report,
    },
    { emit: bus.emit, signal: interrupt.signal },
  );
  const page = await writeResult(config.out, result);
  output[Symbol.dispose]();
  process.stdout.write(`\n${page}\nresults: ${join(config.out, 'bench.json')}\n`);
  const whole = result.parts.every(({ notMeasured }) => notMeasured === null);
  return whole ? ExitCode.passed : ExitCode.infrastructure;
}

function rounds(text: string): number {
  const count = Number(text);
  if (Number.isInteger(count) && count >= 1 && count <= 100) return count;
  throw new InvalidArgumentError('It must be a whole number from 1 to 100.');
}
