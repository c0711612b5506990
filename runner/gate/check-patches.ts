import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import type { CompilerWarning } from '#kernel/build/extra-warnings.ts';
import { newWarnings } from '#kernel/build/extra-warnings.ts';
import type { KernelImage } from '#kernel/kernel-image.ts';
import type { Patch } from '#kernel/series/series.ts';
import { cacheDir } from '#runner/lib/paths.ts';
import { lostSymbols } from './config-symbols.ts';
import type { PatchCheck } from './gate-result.ts';
import type { PatchBuild } from './series-kernels.ts';

/** Compiler warnings by patch index (0: the base) for the files that it or the next patch touches. */
export type Warnings = ReadonlyMap<number, readonly CompilerWarning[]>;

/** Files whose warnings have to be known after patch `index` (0: the base), to compare it with both its neighbours. */
export function filesToCompare(patches: readonly Patch[], index: number): readonly string[] {
  const files = [patches[index - 1], patches[index]].flatMap((patch) => patch?.files ?? []);
  return [...new Set(files)].filter((file) => file.endsWith('.c')).toSorted();
}

/** What is to be said about each patch beside what its kernel does. */
export async function checkPatches(
  patches: readonly Patch[],
  builds: readonly PatchBuild[],
  warnings: Warnings,
  advise: (patch: Patch) => Promise<PatchCheck['advice']>,
): Promise<ReadonlyMap<number, PatchCheck>> {
  const checks = new Map<number, PatchCheck>();
  for (const patch of patches) {
    const parent = lastBuilt(builds, patch.index - 1);
    const own = builds.find((build) => build.index === patch.index);
    const built = parent !== undefined && own?.state === 'built';
    checks.set(patch.index, {
      warnings: built
        ? describe(ofFiles(warnings, parent.index, patch), ofFiles(warnings, patch.index, patch))
        : [],
      lostSymbols: built ? await lost(parent.kernel, own.kernel) : [],
      advice: await advise(patch),
    });
  }
  return checks;
}

type Built = PatchBuild & { readonly state: 'built' };

function lastBuilt(builds: readonly PatchBuild[], index: number): Built | undefined {
  return builds.filter((build): build is Built => build.state === 'built' && build.index <= index).at(-1);
}

function ofFiles(warnings: Warnings, index: number, { files }: Patch): readonly CompilerWarning[] {
  return (warnings.get(index) ?? []).filter(({ file }) => files.includes(file));
}

function describe(parent: readonly CompilerWarning[], child: readonly CompilerWarning[]): readonly string[] {
  return newWarnings(parent, child).map(({ file, line, text }) => `${file}:${line}: ${text}`);
}

async function lost(parent: KernelImage, child: KernelImage): Promise<readonly string[]> {
  if (parent.config === undefined || child.config === undefined) return [];
  return lostSymbols(await readFile(parent.config, 'utf8'), await readFile(child.config, 'utf8'));
}

const stored = z.array(z.object({ file: z.string(), line: z.number(), text: z.string() }));

/** Keeps what the compiler said of a kernel's files, as the build tree may be elsewhere by then. */
export async function rememberedWarnings(
  kernel: KernelImage,
  files: readonly string[],
  compile: () => Promise<readonly CompilerWarning[]>,
): Promise<readonly CompilerWarning[]> {
  const key = createHash('sha256')
    .update(JSON.stringify([1, kernel.key, files]))
    .digest('hex');
  const path = cacheDir('verdicts', 'warnings', `${key}.json`);
  try {
    return stored.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch {
    // Not there: compiled now.
    const found = await compile();
    await mkdir(dirname(path), { recursive: true });
    await writeFile(`${path}.${process.pid}`, JSON.stringify(found));
    await rename(`${path}.${process.pid}`, path);
    return found;
  }
}
