import type { Command } from 'commander';
import { InvalidArgumentError } from 'commander';
import { optionsToReproduce, whatToReproduce } from '#runner/gate/reproduce.ts';
import { BOOT } from '#runner/gate/sample.ts';
import { loadReport } from '#runner/report/load-report.ts';
import { guestOnly } from '#runner/run/boot-only.ts';
import { run } from '#runner/run/run.ts';
import type { Ends } from '../main.ts';
import { openShell } from '../open-shell.ts';
import { withRun } from '../with-run.ts';

interface ReproduceArguments {
  readonly patch?: number;
  readonly shell?: boolean;
  readonly accel?: string;
  readonly out?: string;
}

/** Exactly one (patch, test) of a report again. The exit code is that of a run. */
export function addReproduceCommand(program: Command, ends: Ends): void {
  program
    .command('reproduce')
    .description('run one failed test of a report again, on the kernel that it failed on')
    .argument('<report>', 'report.json, or the directory it lies in')
    .argument('<test>', 'id of the test as the report has it')
    .option(
      '--patch <n>',
      'the kernel after this patch (0: the base) instead of the one that the verdict blames',
      patchNumber,
    )
    .option('--shell', 'a shell on that kernel instead of the test')
    .option('--accel <which>', 'auto, kvm or tcg')
    .option('--out <dir>', 'directory for results')
    .action(async (where: string, test: string, options: ReproduceArguments) => {
      ends(await reproduce(where, test, options));
    });
}

async function reproduce(where: string, wanted: string, options: ReproduceArguments): Promise<number> {
  const { patch, shell = false, ...others } = options;
  const report = await loadReport(where);
  const reproduction = whatToReproduce(report, wanted, patch);
  let said: number | undefined;
  const code = await withRun(
    { ...optionsToReproduce(report, reproduction), keep: true, ...others },
    (onKernel) => {
      if (!shell && reproduction.test !== BOOT) return run(onKernel);
      return guestOnly(onKernel, async (guest, signal) => {
        if (shell) said = await openShell(guest.machine, [], signal);
      });
    },
  );
  return said ?? code;
}

function patchNumber(text: string): number {
  if (/^\d+$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It must be the number of a patch, or 0 for the base.');
}
