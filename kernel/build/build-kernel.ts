import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Emit } from '#runner/lib/events.ts';
import type { Blame } from '#runner/lib/failure.ts';
import { buildFailure } from './build-failure.ts';
import type { BuildTree } from './build-tree.ts';
import { make, type MakeOptions } from './make.ts';
import { isBuildStep, throttle } from './progress.ts';

export interface BuiltKernel {
  readonly bzImage: string;
  readonly vmlinux: string;
  readonly config: string;
  readonly release: string;
  /** Compile and link steps that this build took. */
  readonly steps: number;
}

/** @throws Failure E_BUILD_FAILED (`blame`), E_TOOL_MISSING, E_DISK_FULL, E_BUILD_KILLED (infra). */
export async function buildKernel(
  tree: BuildTree,
  blame: Blame,
  emit: Emit,
  options: MakeOptions,
): Promise<BuiltKernel> {
  const lines: string[] = [];
  const due = throttle(500);
  let steps = 0;
  const onLine = (line: string): void => {
    lines.push(line);
    if (!isBuildStep(line)) return;
    steps += 1;
    if (!due()) return;
    const total = tree.expectedSteps;
    const known = total !== undefined && steps <= total ? total : undefined;
    emit({ type: 'stage-progress', stage: 'build', done: steps, total: known, unit: 'objects' });
  };
  const result = await make(['bzImage'], { ...options, onLine });
  if (result.exitCode !== 0) {
    throw await buildFailure({ step: 'the kernel build', lines, result, blame, options });
  }
  const inObjects = (...path: string[]): string => join(tree.objects, ...path);
  return {
    bzImage: inObjects('arch', 'x86', 'boot', 'bzImage'),
    vmlinux: inObjects('vmlinux'),
    config: inObjects('.config'),
    release: (await readFile(inObjects('include', 'config', 'kernel.release'), 'utf8')).trim(),
    steps,
  };
}
