import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '#runner/lib/failure.ts';
import type { BenchResult } from './figure.ts';
import { renderMarkdown } from './render.ts';

/** `bench.json` and `bench.md`, each replaced in one step. @throws Failure E_OUT_UNWRITABLE (user). */
export async function writeResult(out: string, result: BenchResult): Promise<string> {
  const page = renderMarkdown(result);
  try {
    await mkdir(out, { recursive: true });
    await replace(join(out, 'bench.json'), `${JSON.stringify(result, undefined, 2)}\n`);
    await replace(join(out, 'bench.md'), page);
  } catch (cause) {
    throw new Failure('E_OUT_UNWRITABLE', 'user', `cannot write results to ${out}`, {
      hint: 'choose another directory with --out DIR',
      cause,
    });
  }
  return page;
}

async function replace(path: string, text: string): Promise<void> {
  const draft = `${path}.${process.pid}.tmp`;
  await writeFile(draft, text);
  await rename(draft, path);
}
