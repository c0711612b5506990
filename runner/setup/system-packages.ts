import { access, constants, glob, readFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { projectRoot } from '#runner/lib/paths.ts';

/** A line of packages.txt, which bootstrap.sh reads too. */
export interface SystemPackage {
  readonly need: string;
  readonly name: string;
  /** A command, or a glob of files, whose presence proves that nothing has to be installed. */
  readonly probe: string;
  readonly reason: string;
}

export async function systemPackages(): Promise<readonly SystemPackage[]> {
  return parsePackages(await readFile(join(projectRoot, 'runner/setup/packages.txt'), 'utf8'));
}

export function parsePackages(text: string): readonly SystemPackage[] {
  return text
    .split('\n')
    .filter((line) => line.trim() !== '' && !line.startsWith('#'))
    .map((line) => {
      const [need = '', name = '', probe = '', ...reason] = line.trim().split(/\s+/);
      return { need, name, probe, reason: reason.join(' ') };
    });
}

/** Where the probe was found, or `undefined`. */
export async function findProbe(probe: string): Promise<string | undefined> {
  if (!probe.startsWith('/')) return await findCommand(probe);
  for await (const path of glob(probe)) return path;
  return undefined;
}

/** As bootstrap.sh looks: Debian keeps some tools out of a user's PATH. */
async function findCommand(name: string): Promise<string | undefined> {
  const places = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  for (const place of places.filter((path) => path !== '')) {
    const path = join(place, name);
    const isThere = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isThere) return path;
  }
  return undefined;
}
