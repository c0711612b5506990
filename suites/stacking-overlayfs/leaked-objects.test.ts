import type { BatchCall, Client } from '../lib/client.ts';
import { CAPABILITY, MAY_USE_RAW_SOCKETS } from '../lib/file-capabilities.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill } from '../lib/layers.ts';
import { doRounds, KMALLOC, leaveNothing, on, onOpen, ROUNDS, type Part } from '../lib/leaks.ts';
import { makeAll } from '../lib/make-all.ts';
import { WITH_HANDLES } from '../lib/overlay-handles.ts';
import { WORK_DIR } from '../lib/overlay-on-fuse.ts';
import { overlayRequest, type OverlayOptions } from '../lib/stacked-mount.ts';

/** What is done often on an overlay leaves no object in the kernel once it is unmounted. */

const CACHES = ['filp', 'cred_jar', 'cred', 'dentry', 'ovl_inode', 'mnt_cache', ...KMALLOC];

const DATA = { make: { length: 5000, seed: 1 } };

class Layers {
  readonly base: string;
  readonly lower: string;
  readonly lowest: string;
  readonly upper: string;
  readonly work: string;
  /** Where overlays are mounted. */
  readonly top: string;

  constructor(base: string, top: string) {
    this.base = base;
    this.lower = `${base}/lower`;
    this.lowest = `${base}/lowest`;
    this.upper = `${base}/upper`;
    this.work = `${base}/work`;
    this.top = top;
  }

  mount(options: string, other: Partial<OverlayOptions> = {}): BatchCall {
    const { lower, lowest, upper, work, top } = this;
    const request = overlayRequest({ lower: [lower, lowest], upper, work, options, ...other });
    return { call: 'mount', args: { ...request, target: top } };
  }

  umount(): BatchCall {
    return { call: 'umount2', args: { target: this.top } };
  }
}

function two(call: 'rename' | 'link', from: string, to: string): BatchCall {
  return { call, args: { from, to } };
}

const makeFile = (path: string): Part =>
  onOpen({ path, flags: 'O_RDWR|O_CREAT|O_EXCL', mode: 0o644 }, (fd) => [
    { call: 'pwrite', args: { fd, data: DATA, offset: 0 } },
  ]);

/** All names, in parts: the second time from where the first has ended. */
const list = (path: string): Part =>
  onOpen({ path, flags: 'O_RDONLY|O_DIRECTORY' }, (fd) => [
    { call: 'readdirFd', args: { fd, bytes: 64 } },
    { call: 'readdirFd', args: { fd, bytes: 4096 } },
    { call: 'readdirFd', args: { fd } },
  ]);

interface Work {
  readonly needs?: (guest: TestGuest) => void;
  readonly options: string;
  /** What each round does in the layers before it mounts. */
  readonly beneath?: (layers: Layers) => readonly Part[];
  /** What is done once through an overlay. */
  readonly once?: (top: string) => readonly Part[];
  /** What each round does through an overlay of its own. */
  readonly calls: (top: string) => readonly Part[];
  /** What each round does in the layers when it has unmounted. */
  readonly afterwards?: (layers: Layers) => readonly Part[];
  /** Calls of a round that fail: `open: EIO`. Default none. */
  readonly fails?: readonly string[];
}

const WORK: Readonly<Record<string, Work>> = {
  'overlays that are mounted, and others that are refused,': {
    options: 'index=on,redirect_dir=on',
    beneath: ({ base }) => [
      // What an overlay that did not end well may have left.
      on('mkdir', `${base}/${WORK_DIR}/left`),
      on('mkdir', `${base}/${WORK_DIR}/left/deep`),
    ],
    calls: () => [],
    afterwards: (layers) => {
      const { lower, lowest, upper } = layers;
      const options = 'index=on';
      return [
        layers.mount('', { upper: undefined, work: undefined }),
        layers.umount(),
        layers.mount('nothing=on'),
        layers.mount(options, { lower: [lower, `${lowest}/nothing`] }),
        layers.mount(options, { upper: `${upper}/nothing` }),
        layers.mount(options, { work: upper }),
        // The upper layer belongs to the lower one of its first mount.
        layers.mount(options, { lower: [lowest, lower] }),
      ];
    },
    fails: ['mount: EINVAL', 'mount: ENOENT', 'mount: ENOENT', 'mount: EINVAL', 'mount: ESTALE'],
  },
  'lookups in layers, and lists of them,': {
    options: 'index=on,redirect_dir=on,metacopy=on',
    once: (top) => [
      two('rename', `${top}/merged`, `${top}/moved`),
      two('rename', `${top}/redirected`, `${top}/twice`),
      on('chmod', `${top}/f`, { mode: 0o600 }),
      on('chmod', `${top}/one`, { mode: 0o600 }),
      on('unlink', `${top}/gone`),
      on('unlink', `${top}/replaced/f`),
      on('rmdir', `${top}/replaced`),
      on('mkdir', `${top}/replaced`),
      on('mkdir', `${top}/impure`),
      two('rename', `${top}/g`, `${top}/impure/g`),
    ],
    calls: (top) => [
      on('lstat', `${top}/moved/deep/f`),
      on('lstat', `${top}/moved/deep/lowest`),
      on('lstat', `${top}/twice/f`),
      on('lstat', `${top}/two`),
      on('lstat', `${top}/gone`),
      on('lstat', `${top}/replaced/f`),
      onOpen({ path: `${top}/f`, flags: 'O_RDONLY' }, (fd) => [
        { call: 'pread', args: { fd, count: 10, offset: 0 } },
      ]),
      ...['', '/moved', '/moved/deep', '/replaced', '/impure'].map((directory) => list(top + directory)),
      // What was kept of the list is of no use any more.
      two('rename', `${top}/impure/g`, `${top}/impure/g2`),
      list(`${top}/impure`),
      two('rename', `${top}/impure/g2`, `${top}/impure/g`),
    ],
    fails: ['lstat: ENOENT', 'lstat: ENOENT'],
  },
  'copies to the upper layer': {
    options: 'index=on,redirect_dir=on,metacopy=on',
    beneath: ({ lower }) => [
      makeFile(`${lower}/c`),
      on('setxattr', `${lower}/c`, { name: 'trusted.fusegate', data: DATA }),
      on('setxattr', `${lower}/c`, { name: CAPABILITY, data: MAY_USE_RAW_SOCKETS }),
      two('link', `${lower}/c`, `${lower}/c2`),
    ],
    calls: (top) => [
      on('chmod', `${top}/c`, { mode: 0o600 }),
      onOpen({ path: `${top}/c`, flags: 'O_WRONLY' }, (fd) => [
        { call: 'pwrite', args: { fd, data: DATA, offset: 0 } },
      ]),
      two('link', `${top}/c2`, `${top}/c3`),
      ...['c', 'c2', 'c3'].map((name) => on('unlink', `${top}/${name}`)),
    ],
    afterwards: ({ lower, upper }) =>
      [lower, upper].flatMap((layer) => ['c', 'c2'].map((name) => on('unlink', `${layer}/${name}`))),
  },
  'changes of names': {
    options: 'index=on,redirect_dir=on',
    beneath: ({ lower, lowest }) => [
      ...[lower, lowest].map((layer) => on('mkdir', `${layer}/d`)),
      ...['full', 'emptied'].flatMap((name) => [
        on('mkdir', `${lower}/${name}`),
        on('mknod', `${lower}/${name}/f`, { mode: 0o100_644 }),
      ]),
    ],
    calls: (top) => [
      two('rename', `${top}/d`, `${top}/d2`),
      on('mkdir', `${top}/new`),
      two('rename', `${top}/d2`, `${top}/new/d3`),
      on('rmdir', `${top}/new/d3`),
      on('unlink', `${top}/emptied/f`),
      on('rmdir', `${top}/emptied`),
      on('unlink', `${top}/full/f`),
      two('rename', `${top}/new`, `${top}/full`),
      on('mknod', `${top}/full/f`, { mode: 0o100_644 }),
      on('unlink', `${top}/full/f`),
      on('rmdir', `${top}/full`),
      on('symlink', `${top}/l`, { target: 'somewhere' }),
      on('readlink', `${top}/l`),
      on('unlink', `${top}/l`),
    ],
    afterwards: ({ lower, lowest, upper }) => [
      ...['d', 'full', 'emptied'].map((name) => on('unlink', `${upper}/${name}`)),
      ...['full', 'emptied'].map((name) => on('unlink', `${lower}/${name}/f`)),
      ...[`${lower}/d`, `${lowest}/d`, `${lower}/full`, `${lower}/emptied`].map((path) => on('rmdir', path)),
    ],
  },
  'files that get their names late': {
    needs: (guest) =>
      guest.needs(guest.expected.hasIoModes, 'files without a name on overlays: they came with 6.3'),
    options: '',
    calls: (top) => [
      onOpen({ path: top, flags: 'O_RDWR|O_TMPFILE', mode: 0o600 }, (fd) => [
        { call: 'linkFd', args: { fd, to: `${top}/t` } },
      ]),
      on('unlink', `${top}/t`),
    ],
  },
};

/** What the layers have in the beginning. */
const FILES = {
  lower: [
    ...['merged/', 'merged/deep/', 'merged/deep/f', 'redirected/'],
    ...['f', 'g', 'one', 'gone', 'replaced/', 'replaced/f'],
  ],
  lowest: ['merged/', 'merged/deep/', 'merged/deep/lowest', 'elsewhere/', 'elsewhere/f'],
};

/** Fresh layers with these files. */
async function layersOf(guest: TestGuest, client: Client): Promise<Layers> {
  const base = await guest.directory('tmpfs', 'layers');
  const layers = new Layers(base, await guest.directory('area', 'overlay'));
  const { lower, lowest, upper, work } = layers;
  for (const path of [lower, lowest, upper, work]) await client.mkdir({ path });
  await fill(client, lower, FILES.lower);
  await fill(client, lowest, FILES.lowest);
  await client.link({ from: `${lower}/one`, to: `${lower}/two` });
  const redirect = { name: 'trusted.overlay.redirect', data: '/elsewhere' };
  await client.setxattr({ path: `${lower}/redirected`, ...redirect });
  return layers;
}

for (const [what, { needs, options, beneath, once, calls, afterwards, fails }] of Object.entries(WORK)) {
  guestTest(`${ROUNDS} ${what} leave no objects in the kernel (C19)`, async (t, guest) => {
    needs?.(guest);
    await using client = await guest.client({ callMs: 60_000 });
    const layers = await layersOf(guest, client);
    const mounted = (parts: readonly Part[]) => [layers.mount(options), ...parts, layers.umount()];
    t.deepEqual(await doRounds(client, mounted(once?.(layers.top) ?? []), 1), [''], 'in the beginning');
    const round = [
      ...(beneath?.(layers) ?? []),
      ...mounted(calls(layers.top)),
      ...(afterwards?.(layers) ?? []),
    ];
    await leaveNothing(t, { guest, client, caches: CACHES }, round, fails);
  });
}

guestTest(`${ROUNDS} times files by their handles leave no objects in the kernel (C19)`, async (t, guest) => {
  await using client = await guest.client({ callMs: 60_000 });
  const layers = await layersOf(guest, client);
  const { top } = layers;
  const mount = layers.mount(WITH_HANDLES);
  await makeAll(client, [mount, on('chmod', `${top}/f`, { mode: 0o600 }), on('mkdir', `${top}/new`)]);
  const names = ['f', 'g', 'one', 'new', 'merged', 'merged/deep', 'merged/deep/lowest', 'gone'];
  const paths = names.map((name) => `${top}/${name}`);
  const handles = await Promise.all(paths.map((path) => client.nameToHandle({ path })));
  await makeAll(client, [on('unlink', `${top}/gone`), layers.umount()]);
  const byHandles = onOpen({ path: top, flags: 'O_RDONLY|O_DIRECTORY' }, (mountFd, at) =>
    handles.flatMap((handle, nth) => [
      { call: 'openByHandle', args: { mountFd, ...handle, flags: 'O_RDONLY' } },
      { call: 'close', args: { fd: { ref: { of: at + 1 + 2 * nth } } } },
    ]),
  );
  const named = paths.slice(0, -1).map((path) => on('nameToHandle', path));
  await leaveNothing(
    t,
    { guest, client, caches: CACHES },
    [mount, byHandles, ...named, layers.umount()],
    ['openByHandle: ESTALE', 'close: EBADF'],
  );
});
