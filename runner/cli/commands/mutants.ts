import type { Command } from 'commander';
import { writeFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { loadProfile } from '#kernel/profile.ts';
import type { Options } from '#runner/config/config.ts';
import { cleanLine } from '#runner/lib/clean-text.ts';
import { ExitCode, Failure } from '#runner/lib/failure.ts';
import { projectRoot } from '#runner/lib/paths.ts';
import { guardRun, sweepDeadRuns } from '#runner/lib/reaper.ts';
import { EVERY_FILE, everyMutant, type Sample } from '#runner/mutants/every-mutant.ts';
import { chooseCatalogue, chooseMutants, loadMutants, writeSeries } from '#runner/mutants/mutants.ts';
import { renderMutants, scoreOf } from '#runner/mutants/render.ts';
import { recordMutants, runMutants, type MutantsEnd } from '#runner/mutants/run-mutants.ts';
import { listenForInterrupt } from '../interrupt.ts';
import type { Ends } from '../main.ts';
import { configOf } from '../options.ts';
import { realParts } from '../real-parts.ts';

interface MutantsArguments extends Options {
  readonly profile: string;
  readonly out?: string;
  readonly every?: boolean;
  readonly source?: readonly string[];
  readonly sample?: number;
  readonly seed?: number;
  readonly only?: string;
  readonly most?: number;
  readonly again?: boolean;
  readonly record?: boolean;
}

const collect = (value: string, before: readonly string[] = []): readonly string[] => [...before, value];

/**
 * The tests against a kernel with mistakes made on purpose: 0 when every mistake that can be noticed is, 1 when
 * one is not or a test fails without any.
 */
export function addMutantsCommand(program: Command, ends: Ends): void {
  program
    .command('mutants')
    .description('break the kernel on purpose, one mistake at a time: which test notices?')
    .option('--profile <name>', 'whose kernel: mainline-6.12 or v12-6.1', 'mainline-6.12')
    .option('--every', 'not the mistakes of the list but every mutant of the source, made by rules')
    .option('--source <glob>', 'with --every: of these files of the kernel; may be repeated', collect)
    .option('--sample <n>', 'with --every: only so many of those that a test comes across', Number)
    .option('--seed <n>', 'with --sample: which', Number, 1)
    .option('--only <numbers>', 'only these mistakes: 101,401-452')
    .option('--suite <area>', 'area (folder of suites/) or test file; may be repeated', collect)
    .option('--most <n>', 'ask so many tests about one mistake at most (default: all that get there)', Number)
    .option('--again', 'also those whose result is known from an earlier call')
    .option('--record', 'write the table of docs/, and who noticed to mutants.json')
    .option('--accel <which>', 'auto, kvm or tcg')
    .option('--jobs <n>', 'machines at the same time (default: from CPUs and free memory)')
    .option('--out <dir>', 'directory for results (default: out/mutants, or out/mutants-v12)')
    .action(async (options: MutantsArguments) => ends(await mutants(options)));
}

async function mutants(given: MutantsArguments): Promise<number> {
  const { only, most, again = false, record = false, ...options } = given;
  const catalogue = chooseCatalogue(options.profile);
  const profile = await loadProfile(catalogue.profile);
  const sample = sampleAsked(given);
  const out = resolve(
    options.out ?? join('out', `${basename(catalogue.dir)}${given.every === true ? '-every' : ''}`),
  );
  const note = (text: string): void => void process.stderr.write(`note: ${text}\n`);
  await sweepDeadRuns(note);
  await using _guard = await guardRun();
  using interrupt = listenForInterrupt((text) => process.stderr.write(text));
  const { signal } = interrupt;
  const { series, mutants: all } =
    given.every === true
      ? await everyMutant(catalogue, profile, given.source ?? EVERY_FILE, {
          emit: () => undefined,
          signal,
          out,
        })
      : { series: await writeSeries(catalogue, profile.series, out), mutants: await loadMutants(catalogue) };
  const end = await runMutants({
    config: configOf({ ...options, out, series }),
    profile,
    parts: realParts,
    projectDir: projectRoot,
    signal,
    mutants: chooseMutants(all, only),
    sample,
    again,
    most,
    note,
    tell: (line) => process.stdout.write(`${line}\n`),
  });
  if (end.failed.length > 0) return unusable(end);
  if (record) await recordMutants(projectRoot, catalogue, end);
  if (given.every === true) await writeLists(out, end);
  const { noticed, of, equivalent } = scoreOf(end.rows);
  process.stdout.write(`${noticed} of ${of} mistakes noticed, ${equivalent} more cannot be\n`);
  return noticed === of ? ExitCode.passed : ExitCode.kernelFailed;
}

/** @throws Failure E_USAGE (user) */
function sampleAsked({ every, source, sample, seed = 1, record }: MutantsArguments): Sample | undefined {
  const misplaced = source ?? sample;
  if (every !== true && misplaced !== undefined) {
    throw new Failure('E_USAGE', 'user', '--source and --sample are about the mutants of --every');
  }
  if (every === true && record === true) {
    throw new Failure('E_USAGE', 'user', '--record is about the mistakes of the list, not those of --every', {
      hint: 'what came of them is in tried.md and unreached.txt of the directory of results',
    });
  }
  if (sample === undefined) return undefined;
  for (const number of [sample, seed]) {
    if (Number.isInteger(number) && number >= 0) continue;
    throw new Failure('E_USAGE', 'user', '--sample and --seed take whole numbers');
  }
  return { size: sample, seed };
}

/** What has no page of its own in docs/. */
async function writeLists(out: string, { rows, unreached, release }: MutantsEnd): Promise<void> {
  const lines = unreached.map(({ number, file, what }) => `${number} ${file} ${what}\n`);
  await writeFile(join(out, 'unreached.txt'), lines.join(''));
  await writeFile(join(out, 'tried.md'), renderMutants(rows, release));
  process.stdout.write(
    `${unreached.length} mutants that no test comes across are in ${join(out, 'unreached.txt')}\n`,
  );
}

function unusable({ failed }: MutantsEnd): number {
  for (const { id, message } of failed) {
    process.stdout.write(`fails without any mistake: ${id}: ${cleanLine(message ?? '')}\n`);
  }
  return ExitCode.kernelFailed;
}
