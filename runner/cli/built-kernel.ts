import { readdir, stat } from 'node:fs/promises';
import { cacheDir } from '#runner/lib/paths.ts';

/** The kernel that was built last here, to prove an accelerator with; `undefined` when none was. */
export async function findBuiltKernel(): Promise<string | undefined> {
  const names = await readdir(cacheDir('kernels')).catch(() => []);
  const found = await Promise.all(
    names.map(async (name) => {
      const path = cacheDir('kernels', name, 'bzImage');
      return { path, builtAt: (await stat(path).catch(() => undefined))?.mtimeMs };
    }),
  );
  const built = found.flatMap(({ path, builtAt }) => (builtAt === undefined ? [] : [{ path, builtAt }]));
  return built.toSorted((a, b) => b.builtAt - a.builtAt)[0]?.path;
}
