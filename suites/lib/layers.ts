import type { Client } from './client.ts';
import type { TestGuest } from './guest.ts';
import type { StackedMount } from './stacked-mount.ts';

/** Directories for layers, the lowest first. */
export async function layersOf(guest: TestGuest, count: number): Promise<string[]> {
  const dirs: string[] = [];
  for (let nth = 0; nth < count; nth++) dirs.push(await guest.directory('ext4', `layer${nth}`));
  return dirs;
}

/** An overlay over the layers but the last, which is its upper one. */
export async function over(
  guest: TestGuest,
  client: Client,
  layers: readonly string[],
  options?: string,
): Promise<StackedMount> {
  const [upper = '', ...lower] = layers.toReversed();
  return guest.mountOverlay({ lower, upper, work: await guest.directory('ext4', 'work'), options }, client);
}

/** Files and, with a slash, directories below `at`, each after what it is in. A file has its own name in it. */
export async function fill(client: Client, at: string, names: readonly string[]): Promise<void> {
  for (const name of names) {
    if (name.endsWith('/')) await client.mkdir({ path: `${at}/${name.slice(0, -1)}` });
    else await client.writeFile({ path: `${at}/${name}`, data: `${name} at the bottom` });
  }
}

/**
 * Gives a directory of a lower layer a whiteout that is an attribute, as a layer has it that lies on an overlay
 * (overlayfs.rst, whiteouts and opaque directories).
 */
export async function hideByAttribute(client: Client, directory: string, name: string): Promise<void> {
  const path = `${directory}/${name}`;
  await client.writeFile({ path, data: '' });
  await client.setxattr({ path, name: 'trusted.overlay.whiteout', data: 'y' });
  await client.setxattr({ path: directory, name: 'trusted.overlay.opaque', data: 'x' });
}
