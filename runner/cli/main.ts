import { Command, CommanderError } from 'commander';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ExitCode, Failure } from '#runner/lib/failure.ts';
import { projectRoot } from '#runner/lib/paths.ts';
import { addBenchCommand } from './commands/bench.ts';
import { addBootCommand } from './commands/boot.ts';
import { addBuildCommand } from './commands/build.ts';
import { addCleanCommand } from './commands/clean.ts';
import { addCoverageCommand } from './commands/coverage.ts';
import { addDoctorCommand } from './commands/doctor.ts';
import { addExpectedCommand } from './commands/expected.ts';
import { addGateCommand } from './commands/gate.ts';
import { addMutantsCommand } from './commands/mutants.ts';
import { addReportCommand } from './commands/report.ts';
import { addGateSelfTestCommand } from './commands/gate-selftest.ts';
import { addReproduceCommand } from './commands/reproduce.ts';
import { addRunCommand } from './commands/run.ts';
import { addShellCommand } from './commands/shell.ts';
import { tellError } from './tell-error.ts';

/** How long something forgotten may keep the program alive once its work is done. Milliseconds. */
const STRAY_HANDLES_MS = 5000;

/** Runs one command line and sets the exit code. Never rejects. */
export async function main(args: readonly string[]): Promise<void> {
  ignoreClosedPipes();
  endOnAccidents();
  process.exitCode = await execute(args);
  // Does not fire when nothing is left to do, and so never delays the end.
  setTimeout(() => {
    process.exit();
  }, STRAY_HANDLES_MS).unref();
}

async function execute(args: readonly string[]): Promise<number> {
  let exitCode: number = ExitCode.passed;
  try {
    const program = makeProgram((code) => {
      exitCode = code;
    });
    if (args.length === 0) {
      program.outputHelp();
      return ExitCode.usage;
    }
    await program.parseAsync([...args], { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return ExitCode.passed;
    return tellError(error instanceof CommanderError ? usageFailure(error) : error);
  }
}

export type Ends = (exitCode: number) => void;

/** One line per command; each lives in a file of its name. */
function makeProgram(ends: Ends): Command {
  const { version } = JSON.parse(readFileSync(join(projectRoot, 'package.json'), 'utf8')) as {
    readonly version: string;
  };
  const program = new Command('fusegate')
    .description('Regression gate for FUSE passthrough kernel patch series')
    .version(version)
    .showSuggestionAfterError()
    .configureOutput({ writeErr: () => undefined })
    .exitOverride()
    .enablePositionalOptions();
  addRunCommand(program, ends);
  addBuildCommand(program, ends);
  addBootCommand(program, ends);
  addShellCommand(program, ends);
  addGateCommand(program, ends);
  addGateSelfTestCommand(program, ends);
  addMutantsCommand(program, ends);
  addReproduceCommand(program, ends);
  addReportCommand(program, ends);
  addExpectedCommand(program, ends);
  addCoverageCommand(program, ends);
  addDoctorCommand(program, ends);
  addCleanCommand(program, ends);
  addBenchCommand(program, ends);
  return program;
}

/** `error: unknown option '--foo'\n(Did you mean --for?)` → one sentence and a hint. */
function usageFailure(error: CommanderError): Failure {
  const [first = '', suggestion] = error.message.replace(/^error: /, '').split('\n');
  return new Failure('E_USAGE', 'user', first.replace(/\.$/, ''), {
    hint: suggestion?.replaceAll(/[()]/g, '') ?? 'see `npx fusegate --help`',
  });
}

/** Node's own exit code for what nobody caught is 1, which would say that the kernel failed. */
function endOnAccidents(): void {
  process.on('uncaughtException', (error) => {
    tellError(error);
    // The reaper of the run removes what is left.
    process.exit(ExitCode.infrastructure);
  });
}

/** `fusegate report | head` is no error. */
function ignoreClosedPipes(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
    });
  }
}
