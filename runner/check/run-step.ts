import { exec } from '#runner/lib/exec.ts';
import { projectRoot } from '#runner/lib/paths.ts';
import { Failure } from '#runner/lib/failure.ts';
import type { Step } from './steps.ts';
import { parseTap } from './tap.ts';

export interface StepResult {
  readonly step: Step;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly durationMs: number;
  /** What to read when it failed, without the noise of what passed. */
  readonly complaint: readonly string[];
}

/** Never rejects for what the step does: a program that is not there is a failed step with its reason. */
export async function runStep(step: Step, signal?: AbortSignal): Promise<StepResult> {
  const startedAt = performance.now();
  try {
    const {
      exitCode,
      signal: endedBy,
      stdout,
      stderr,
    } = await exec(step.program, step.args, {
      cwd: projectRoot,
      signal,
    });
    const durationMs = Math.round(performance.now() - startedAt);
    const how = exitCode === undefined ? `ended by ${endedBy ?? 'a signal'}` : `exit code ${exitCode}`;
    return { step, durationMs, ...judge(step, exitCode === 0, how, { stdout, stderr }) };
  } catch (error) {
    if (!(error instanceof Failure) || error.blame === 'interrupted') throw error;
    const durationMs = Math.round(performance.now() - startedAt);
    return {
      step,
      durationMs,
      passed: 0,
      failed: 1,
      skipped: 0,
      complaint: [error.message, error.hint ?? ''],
    };
  }
}

type Judgement = Omit<StepResult, 'step' | 'durationMs'>;

function judge(
  step: Step,
  succeeded: boolean,
  how: string,
  said: { readonly stdout: string; readonly stderr: string },
): Judgement {
  const output = [said.stdout, said.stderr].flatMap((text) => text.trimEnd().split('\n'));
  if (step.counts === 'exit-code') {
    return succeeded
      ? { passed: 1, failed: 0, skipped: 0, complaint: [] }
      : { passed: 0, failed: 1, skipped: 0, complaint: output };
  }
  const { passed, failed, skipped, failures } = parseTap(said.stdout);
  const complaint = failures.flatMap(({ title, detail }) => [`not ok: ${title}`, ...detail]);
  const tests = passed + failed + skipped;
  if (succeeded && tests > 0) return { passed, failed, skipped, complaint };
  if (failed > 0) return { passed, failed, skipped, complaint: [...complaint, ...said.stderr.split('\n')] };
  // No test failed, and still it did not end well: that must not look like a pass.
  return { passed, failed: 1, skipped, complaint: [`${step.program}: ${how}, ${tests} tests`, ...output] };
}
