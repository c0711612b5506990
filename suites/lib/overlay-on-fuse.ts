import type { RuleAction } from '#rootfs/protocol/requests.ts';
import type { Client } from './client.ts';
import type { FuseMount, FuseOptions } from './fuse-mount.ts';
import type { TestGuest } from './guest.ts';
import { WITHOUT_PASSTHROUGH } from './registration.ts';
import { upperOn } from './stack.ts';
import type { StackedMount } from './stacked-mount.ts';

/** An overlay one of whose layers is on a plain FUSE filesystem, and that. */
export interface OnFuse extends AsyncDisposable {
  readonly overlay: StackedMount;
  readonly fuse: FuseMount;
}

/** The upper layer has `old`. The overlay is mounted by the client. */
export async function upperOnFuse(
  guest: TestGuest,
  client: Client,
  options?: string,
  served: FuseOptions = {},
): Promise<OnFuse & { readonly lower: string }> {
  await using undo = new AsyncDisposableStack();
  const plain = { passthrough: 'off', init: WITHOUT_PASSTHROUGH } as const;
  const fuse = undo.use(await guest.mountFuse({ ...plain, ...served }));
  const lower = await guest.directory('ext4', 'lower');
  for (const name of ['upper', 'work']) await client.mkdir({ path: fuse.backing(name) });
  await client.writeFile({ path: fuse.backing('upper/old'), data: 'from above' });
  const layers = { lower, upper: fuse.file('upper'), work: fuse.file('work'), options };
  const overlay = undo.use(await guest.mountOverlay(layers, client));
  const all = undo.move();
  return { overlay, fuse, lower, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

/** The lower layer has `f`, which everybody may read and only root may write. */
export async function lowerOnFuse(
  guest: TestGuest,
  client: Client,
  options: FuseOptions = {},
): Promise<OnFuse & { readonly upper: string }> {
  await using undo = new AsyncDisposableStack();
  const root = await guest.directory('ext4', 'lower');
  await client.writeFile({ path: `${root}/f`, data: 'from below', mode: 0o644 });
  await client.chmod({ path: root, mode: 0o755 });
  const plain = { root, passthrough: 'off', init: WITHOUT_PASSTHROUGH } as const;
  const fuse = undo.use(await guest.mountFuse({ ...plain, ...options }));
  const layers = await upperOn(guest);
  const overlay = undo.use(await guest.mountOverlay({ lower: fuse.path, ...layers }, client));
  const all = undo.move();
  return { overlay, fuse, upper: layers.upper, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

/** Directories for all layers on one plain FUSE filesystem, so that numbers are told as on one filesystem. */
export interface LayersOnFuse extends AsyncDisposable {
  readonly fuse: FuseMount;
  /** The overlay, mounted anew at each call; the one before must be gone. */
  readonly mount: (options?: string) => Promise<StackedMount>;
}

/** `lower`, `upper` and `work` on FUSE, which has file handles. The overlay is mounted by the client. */
export async function layersOnFuse(
  guest: TestGuest,
  client: Client,
  options: FuseOptions = {},
): Promise<LayersOnFuse> {
  const init = { ...WITHOUT_PASSTHROUGH, addFlags: ['EXPORT_SUPPORT'] } as const;
  const fuse = await guest.mountFuse({ passthrough: 'off', init, ...options });
  for (const name of ['lower', 'upper', 'work']) await client.mkdir({ path: fuse.backing(name) });
  const layers = { lower: fuse.file('lower'), upper: fuse.file('upper'), work: fuse.file('work') };
  return {
    fuse,
    mount: (more) => guest.mountOverlay({ ...layers, options: more }, client),
    [Symbol.asyncDispose]: () => fuse[Symbol.asyncDispose](),
  };
}

/** Which request that names something; `nth`: of those that match. */
interface NamedRequest {
  readonly opcode: 'GETXATTR' | 'SETXATTR' | 'REMOVEXATTR';
  readonly name: string;
  readonly nth?: number;
}

/** Does the work while one request is answered so; all others are answered as ever. */
export async function answerNamed<T>(
  fuse: FuseMount,
  { opcode, name, nth = 1 }: NamedRequest,
  answer: RuleAction,
  work: () => Promise<T>,
): Promise<T> {
  const hold = await fuse.hold({ opcode });
  const done = work();
  for (let seen = 0; seen < nth;) {
    const request = await hold.arrived();
    if (request.args['name'] === name) seen += 1;
    const due = seen === nth;
    if (due) await hold.stop();
    await hold.release(request, due ? answer : { do: 'normal' });
  }
  return done;
}

/** The index of an overlay whose work directory is `work`, below the root of its server. */
export const INDEX_DIR = 'work/index';
/** Where an overlay whose work directory is `work` makes what gets its name when it is whole, below that root. */
export const WORK_DIR = 'work/work';

/** Names of the entries of that index, without what is in the making. */
export async function indexEntries(client: Client, fuse: FuseMount): Promise<string[]> {
  const names = await client.readdir({ path: fuse.backing(INDEX_DIR) });
  return names.filter((name) => !name.startsWith('#'));
}
