import type { Command } from 'commander';
import { InvalidArgumentError } from 'commander';
import { exactMatch } from '#runner/ava/test-id.ts';
import { whatToReproduce } from '#runner/gate/reproduce.ts';
import { BOOT } from '#runner/gate/sample.ts';
import { loadReport } from '#runner/report/load-report.ts';
import { rerunOptions } from '#runner/report/rerun.ts';
import { guestOnly } from '#runner/run/boot-only.ts';
import type { RunOptions } from '#runner/run/run.ts';
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
  const { test, patches, ref, series } = whatToReproduce(report, wanted, patch);
  const match = test === BOOT ? {} : { match: [exactId(test)] };
  let said: number | undefined;
  const code = await withRun(
    {
      ...rerunOptions(report.rerun),
      ...(series === undefined ? {} : { series }),
      ...match,
      jobs: 1,
      keep: true,
      ...others,
    },
    (plain) => {
      const onKernel: RunOptions = {
        ...plain,
        parts: {
          ...plain.parts,
          prepareKernel: (request, context) =>
            plain.parts.prepareKernel(
              {
                ...request,
                patches,
                ref: request.tree === undefined ? undefined : ref,
                role: patches === 0 ? 'base' : request.role,
              },
              context,
            ),
        },
      };
      if (!shell && test !== BOOT) return run(onKernel);
      return guestOnly(onKernel, async (guest, signal) => {
        if (shell) said = await openShell(guest.machine, [], signal);
      });
    },
  );
  return said ?? code;
}

/** The title as AVA's pattern language would have to say it to mean just this one. */
function exactId(id: string): string {
  const colon = id.indexOf(': ');
  return `${id.slice(0, colon)}: ${exactMatch(id.slice(colon + 2))}`;
}

function patchNumber(text: string): number {
  const number = Number(text);
  if (Number.isInteger(number) && number >= 0) return number;
  throw new InvalidArgumentError('It must be the number of a patch, or 0 for the base.');
}
