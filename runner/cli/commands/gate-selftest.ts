import type { Command } from 'commander';
import { InvalidArgumentError } from 'commander';
import { join } from 'node:path';
import { kernelWarnings, pristineSource } from '#kernel/prepare-kernel.ts';
import { loadProfile } from '#kernel/profile.ts';
import { loadCatalogue } from '#runner/gate/catalogue.ts';
import { renderSelfTest, selfTest } from '#runner/gate/selftest.ts';
import { ExitCode } from '#runner/lib/failure.ts';
import { projectRoot } from '#runner/lib/paths.ts';
import { guardRun, sweepDeadRuns } from '#runner/lib/reaper.ts';
import { linesReporter } from '#runner/report/reporters/lines.ts';
import { listenForInterrupt } from '../interrupt.ts';
import type { Ends } from '../main.ts';
import { configOf } from '../options.ts';
import { realParts } from '../real-parts.ts';

interface SelfTestArguments {
  readonly only?: readonly string[];
  readonly rounds: number;
  readonly accel?: string;
  readonly out?: string;
  readonly cached?: boolean;
}

/** The gate against series with known right answers: 0 when every answer is right, else 3. */
export function addGateSelfTestCommand(program: Command, ends: Ends): void {
  program
    .command('gate-selftest')
    .description('real gates of the series in kernel/series/catalogue: does the gate give the right answers?')
    .option('--only <names...>', 'only these series')
    .option('--rounds <n>', 'how often', rounds, 1)
    .option('--accel <which>', 'auto, kvm or tcg')
    .option('--out <dir>', 'directory for results', join('out', 'gate-selftest'))
    .option('--cached', 'take results that an earlier gate left')
    .action(async (options: SelfTestArguments) => {
      ends(await runSelfTest(options));
    });
}

async function runSelfTest({
  only,
  rounds: count,
  cached = false,
  ...others
}: SelfTestArguments): Promise<number> {
  const entries = (await loadCatalogue()).filter(({ name }) => only === undefined || only.includes(name));
  await sweepDeadRuns((text) => process.stderr.write(`fusegate: ${text}\n`));
  await using _guard = await guardRun();
  using interrupt = listenForInterrupt((text) => process.stderr.write(text));
  const results = await selfTest(entries, {
    rounds: count,
    useCache: cached,
    tools: { kernelWarnings, pristineSource },
    configOf: ({ profile, suite, match }, series) =>
      configOf({ ...others, profile, suite, series, ...(match === undefined ? {} : { match }) }),
    profileOf: (name) => loadProfile(name),
    run: {
      profile: await loadProfile('mainline-6.12'),
      parts: realParts,
      projectDir: projectRoot,
      sinks: [linesReporter((text) => process.stderr.write(text), 'npx fusegate run')],
      signal: interrupt.signal,
    },
    onResult: ({ entry, round, wrong }) => {
      process.stderr.write(
        `${wrong.length === 0 ? 'right' : `WRONG: ${wrong.join('; ')}`}: ${entry.name}, round ${round}\n`,
      );
    },
  });
  process.stdout.write(renderSelfTest(results));
  if (interrupt.signal.aborted) return ExitCode.interrupted;
  return results.length > 0 && results.every(({ wrong }) => wrong.length === 0)
    ? ExitCode.passed
    : ExitCode.infrastructure;
}

function rounds(text: string): number {
  const number = Number(text);
  if (Number.isInteger(number) && number >= 1 && number <= 20) return number;
  throw new InvalidArgumentError('It must be a whole number from 1 to 20.');
}
