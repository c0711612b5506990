import { glob } from 'node:fs/promises';
import { projectRoot } from '#runner/lib/paths.ts';
import { exitCodeOf, ExitCode, Failure } from '#runner/lib/failure.ts';
import { closingLine, renderResult } from './render.ts';
import { runStep, type StepResult } from './run-step.ts';
import { staticSteps, testStep, type Step } from './steps.ts';

/** The project's own tests; the entry of `make check`. */
async function check(signal: AbortSignal): Promise<boolean> {
  const results: StepResult[] = [];
  const report = (result: StepResult): void => {
    results.push(result);
    print(renderResult(result));
  };
  await runTwoAtATime(staticSteps(await shellScripts()), report, signal);
  report(await runStep(testStep, signal));
  print(closingLine(results));
  return results.every(({ failed }) => failed === 0);
}

async function runTwoAtATime(
  steps: readonly Step[],
  report: (result: StepResult) => void,
  signal: AbortSignal,
): Promise<void> {
  const waiting = [...steps];
  const lane = async (): Promise<void> => {
    for (let step = waiting.shift(); step !== undefined; step = waiting.shift()) {
      report(await runStep(step, signal));
    }
  };
  await Promise.all([lane(), lane()]);
}

async function shellScripts(): Promise<readonly string[]> {
  const found = await Array.fromAsync(glob('{kernel,rootfs,runner,suites}/**/*.sh', { cwd: projectRoot }));
  return ['.ci/run', ...found.sort()];
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

const interrupted = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.once(name, () => {
    interrupted.abort(new Failure('E_INTERRUPTED', 'interrupted', `interrupted by ${name}`));
  });
}
try {
  process.exitCode = (await check(interrupted.signal)) ? ExitCode.passed : ExitCode.kernelFailed;
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  process.stderr.write(`${error.code}: ${error.message}\n`);
  process.exitCode = exitCodeOf(error.blame);
}
