import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '#runner/lib/failure.ts';

/** `6.12.117` from the top Makefile's first lines; `undefined` when that is not a kernel's. */
export function parseKernelVersion(makefile: string): string | undefined {
  const value = (name: string): string | undefined =>
    new RegExp(`^${name} *=[ \\t]*(\\S*)[ \\t]*$`, 'mu').exec(makefile)?.[1];
  const version = value('VERSION');
  const patchLevel = value('PATCHLEVEL');
  if (!version || !patchLevel) return undefined;
  return `${version}.${patchLevel}.${value('SUBLEVEL') ?? '0'}${value('EXTRAVERSION') ?? ''}`;
}

/** @throws Failure E_TREE_INVALID (user) when `dir` is no kernel source tree. */
export async function kernelVersionOf(dir: string): Promise<string> {
  const makefile = await readFile(join(dir, 'Makefile'), 'utf8').catch(() => '');
  const version = parseKernelVersion(makefile);
  if (version !== undefined) return version;
  throw new Failure('E_TREE_INVALID', 'user', `${dir} is not a Linux source tree`, {
    hint: 'name the directory that holds the kernel’s top Makefile',
  });
}
