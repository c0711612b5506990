import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Emit } from '#runner/lib/events.ts';
import type { Blame } from '#runner/lib/failure.ts';
import { buildFailure } from './build-failure.ts';
import type { BuildTree } from './build-tree.ts';
import { make, type MakeOptions } from './make.ts';
import { isBuildStep, throttle } from './progress.ts';

/** scripts/link-vmlinux.sh: the symbols moved between its last two passes. What it advises to do about it. */
const MOVED_SYMBOLS = 'Inconsistent kallsyms data';
const ONE_MORE_PASS = 'KALLSYMS_EXTRA_PASS=1';

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
  let result = await make(['bzImage'], { ...options, onLine });
  if (result.exitCode !== 0 && lines.includes(MOVED_SYMBOLS)) {
    // No fault of a patch: the same tree links a minute later. Only the link is repeated.
    emit({ type: 'note', text: `linking once more with ${ONE_MORE_PASS}: ${MOVED_SYMBOLS.toLowerCase()}` });
    lines.length = 0;
    result = await make(['bzImage', ONE_MORE_PASS], { ...options, onLine });
  }
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
