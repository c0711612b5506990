import { glob } from 'node:fs/promises';
import { projectRoot } from '#runner/lib/paths.ts';
import { asProgram } from './as-program.ts';
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

await asProgram(check, 'once');
