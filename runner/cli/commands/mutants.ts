import type { Command } from 'commander';
import { basename, join } from 'node:path';
import { loadProfile } from '#kernel/profile.ts';
import type { Options } from '#runner/config/config.ts';
import { cleanLine } from '#runner/lib/clean-text.ts';
import { ExitCode } from '#runner/lib/failure.ts';
import { projectRoot } from '#runner/lib/paths.ts';
import { guardRun, sweepDeadRuns } from '#runner/lib/reaper.ts';
import { chooseCatalogue, chooseMutants, loadMutants, writeSeries } from '#runner/mutants/mutants.ts';
import { scoreOf } from '#runner/mutants/render.ts';
import { recordMutants, runMutants, type MutantsEnd } from '#runner/mutants/run-mutants.ts';
import { listenForInterrupt } from '../interrupt.ts';
import type { Ends } from '../main.ts';
import { configOf } from '../options.ts';
import { realParts } from '../real-parts.ts';

interface MutantsArguments extends Options {
  readonly profile: string;
  readonly out?: string;
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

async function mutants({
  only,
  most,
  again = false,
  record = false,
  ...options
}: MutantsArguments): Promise<number> {
  const catalogue = chooseCatalogue(options.profile);
  const chosen = chooseMutants(await loadMutants(catalogue), only);
  const profile = await loadProfile(catalogue.profile);
  const out = options.out ?? join('out', basename(catalogue.dir));
  const series = await writeSeries(catalogue, profile.series, out);
  const config = configOf({ ...options, out, series });
  const note = (text: string): void => void process.stderr.write(`note: ${text}\n`);
  await sweepDeadRuns(note);
  await using _guard = await guardRun();
  using interrupt = listenForInterrupt((text) => process.stderr.write(text));
  const end = await runMutants({
    config,
    profile,
    parts: realParts,
    projectDir: projectRoot,
    signal: interrupt.signal,
    mutants: chosen,
    again,
    most,
    note,
    tell: (line) => process.stdout.write(`${line}\n`),
  });
  if (end.failed.length > 0) return unusable(end);
  if (record) await recordMutants(projectRoot, catalogue, end);
  const { noticed, of, equivalent } = scoreOf(end.rows);
  process.stdout.write(`${noticed} of ${of} mistakes noticed, ${equivalent} more cannot be\n`);
  return noticed === of ? ExitCode.passed : ExitCode.kernelFailed;
}

function unusable({ failed }: MutantsEnd): number {
  for (const { id, message } of failed) {
    process.stdout.write(`fails without any mistake: ${id}: ${cleanLine(message ?? '')}\n`);
  }
  return ExitCode.kernelFailed;
}
