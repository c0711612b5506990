import type { Assertions } from 'ava';

import type { Client, FileHandle, SyscallError } from '../lib/client.ts';
import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill } from '../lib/layers.ts';
import { INDEX_DIR, upperOnFuse } from '../lib/overlay-on-fuse.ts';
import { WITH_HANDLES } from '../lib/overlay-handles.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';
import { upperOn } from '../lib/stack.ts';
import type { StackedMount } from '../lib/stacked-mount.ts';

/** The index that nfs_export keeps of directories too, and files that are opened by their handle alone (overlayfs.rst). */

const UPPER = 'trusted.overlay.upper';
const ORIGIN = 'trusted.overlay.origin';
/** Before the `struct ovl_fb` of a handle, fs/overlayfs/overlayfs.h. */
const PADDING = 3;
/** Where in one of these the filesystem is told. */
const UUID = 5;

async function byHandle(client: Client, overlay: StackedMount, handle: FileHandle): Promise<string> {
  const mountFd = await client.open({ path: overlay.path, flags: 'O_RDONLY|O_DIRECTORY' });
  const errno = await client.errno.openByHandle({ mountFd, ...handle, flags: 'O_RDONLY' });
  await client.close({ fd: mountFd });
  return errno;
}

/** An overlay of which the directory `d` is copied up, with `low` below and `up` above, beside `other` and `own/`. */
async function indexed(guest: TestGuest, client: Client) {
  const lower = await guest.directory('ext4', 'lower');
  const layers = await upperOn(guest);
  await fill(client, lower, ['d/', 'd/low', 'e/', 'e/elsewhere', 'f']);
  const mount = () => guest.mountOverlay({ lower, ...layers, options: WITH_HANDLES }, client);
  const handles = new Map<string, FileHandle>();
  {
    await using overlay = await mount();
    await fill(client, overlay.path, ['d/up', 'e/up', 'own/', 'file']);
    for (const name of ['d', 'e', 'own', 'file', 'f']) {
      handles.set(name, await client.nameToHandle({ path: overlay.file(name) }));
    }
  }
  const handleOf = (name: string) => handles.get(name) ?? { type: 0, handle: new Uint8Array() };
  const index = `${layers.work}/index`;
  const realOf = (name: string): Uint8Array => Uint8Array.from(handleOf(name).handle).slice(PADDING);
  const nameOf = async (name: string): Promise<string> => {
    const origin = await client.getxattr({ path: `${layers.upper}/${name}`, name: ORIGIN });
    return `${index}/${Buffer.from(origin).toString('hex')}`;
  };
  const kindOf = async (path: string): Promise<string> => {
    if ((await client.errno.lstat({ path })) !== 'ok') return 'none';
    const { mode } = await client.lstat({ path });
    return (mode & 0o170_000) === 0o020_000 ? 'whiteout' : 'entry';
  };
  return { lower, ...layers, mount, handleOf, realOf, entry: await nameOf('d'), kindOf };
}

type Indexed = Awaited<ReturnType<typeof indexed>>;

/** What is done to the layers of an overlay that is not mounted. */
const CHANGES: readonly {
  readonly what: string;
  readonly change: (client: Client, layers: Indexed) => Promise<unknown>;
  /** The errno of the mount; what there is instead of the entry, and what the directory lists or the errno of its name. */
  readonly mounts?: string;
  readonly entry?: string;
  readonly lists?: readonly string[] | string;
  /** What opening it by its handle gives. */
  readonly opens?: string;
}[] = [
  { what: 'nothing', change: () => Promise.resolve(), entry: 'entry', lists: ['low', 'up'], opens: 'ok' },
  {
    what: 'an entry that does not say of which directory',
    change: (client, { entry }) => client.removexattr({ path: entry, name: UPPER }),
    entry: 'none',
    lists: ['low', 'up'],
  },
  {
    what: 'an entry of a directory that is removed',
    change: async (client, { upper }) => {
      await client.unlink({ path: `${upper}/d/up` });
      await client.rmdir({ path: `${upper}/d` });
    },
    entry: 'whiteout',
    lists: 'EIO',
    opens: 'ESTALE',
  },
  {
    what: 'an entry of a directory on another filesystem',
    change: async (client, { entry }) => {
      const data = new Uint8Array(await client.getxattr({ path: entry, name: UPPER }));
      data[UUID] = (data[UUID] ?? 0) ^ 0xff;
      await client.setxattr({ path: entry, name: UPPER, data });
    },
    entry: 'whiteout',
    lists: 'EIO',
    opens: 'ESTALE',
  },
  {
    what: 'an entry of a directory that has another origin',
    change: async (client, { upper }) => {
      const data = new Uint8Array(await client.getxattr({ path: `${upper}/e`, name: ORIGIN }));
      await client.setxattr({ path: `${upper}/d`, name: ORIGIN, data });
    },
    entry: 'none',
    lists: ['up'],
  },
  {
    what: 'an entry of a directory that says nothing of its origin',
    change: (client, { upper }) => client.removexattr({ path: `${upper}/d`, name: ORIGIN }),
    mounts: 'ENODATA',
  },
  {
    what: 'an entry of a file',
    change: (client, { entry, realOf }) =>
      client.setxattr({ path: entry, name: UPPER, data: realOf('file') }),
    mounts: 'EIO',
  },
  {
    what: 'an entry of a directory that is of the upper layer alone',
    change: (client, { entry, realOf }) => client.setxattr({ path: entry, name: UPPER, data: realOf('own') }),
    mounts: 'ENODATA',
  },
  {
    what: 'a directory that was renamed without the overlay',
    change: (client, { upper }) => client.rename({ from: `${upper}/d`, to: `${upper}/g` }),
    entry: 'entry',
    lists: 'EIO',
  },
  {
    what: 'another directory in its place below',
    change: async (client, { lower }) => {
      await client.rename({ from: `${lower}/d`, to: `${lower}/h` });
      await fill(client, lower, ['d/', 'd/new']);
    },
    entry: 'entry',
    lists: ['up'],
  },
];

guestTest(
  'an index of directories is believed where directory, entry and origin agree, and mended or refused else (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    for (const { what, change, mounts = 'ok', entry, lists, opens } of CHANGES) {
      const layers = await indexed(guest, client);
      await change(client, layers);
      const mounted = await layers.mount().catch((error: unknown) => {
        t.is((error as SyscallError).errno, mounts, `${what}: the mount`);
      });
      if (mounted === undefined) continue;
      await using overlay = mounted;
      t.is('ok', mounts, `${what}: the mount`);
      t.is(await layers.kindOf(layers.entry), entry ?? 'entry', `${what}: in the index`);
      const path = overlay.file('d');
      t.is(await client.errno.lstat({ path }), typeof lists === 'string' ? lists : 'ok', what);
      if (typeof lists !== 'string') t.deepEqual(await client.readdir({ path }), lists, what);
      if (opens !== undefined) t.is(await byHandle(client, overlay, layers.handleOf('d')), opens, what);
      t.deepEqual(await client.readdir({ path: overlay.file('e') }), ['elsewhere', 'up'], `${what}: another`);
    }
  },
);

const APPEND = 'O_WRONLY|O_APPEND';

/** Copies `f` up by its handle, on an overlay that has not looked for its name. */
async function copiedByHandle(t: Assertions, client: Client, layers: Indexed): Promise<void> {
  const entries = () => client.readdir({ path: `${layers.work}/index` });
  const before = (await entries()).length;
  const { ino } = await client.stat({ path: `${layers.lower}/f` });
  await using overlay = await layers.mount();
  const mountFd = await client.open({ path: overlay.path, flags: 'O_RDONLY|O_DIRECTORY' });
  const fd = await client.openByHandle({ mountFd, ...layers.handleOf('f'), flags: APPEND });
  await client.write({ fd, data: ', changed' });
  t.is((await client.fstat({ fd })).ino, ino, 'its number');
  for (const each of [fd, mountFd]) await client.close({ fd: each });
  t.is(await client.errno.lstat({ path: `${layers.upper}/f` }), 'ENOENT', 'no name');
  t.is((await entries()).length, before + 1, 'one in the index');
  t.is(text(await client.readFile({ path: overlay.file('f') })), 'f at the bottom, changed');
}

/** Mounts the overlay twice, and changes `f` by its name, of which there are so many. */
async function changedByName(t: Assertions, client: Client, layers: Indexed, nlink: number): Promise<void> {
  const { ino } = await client.stat({ path: `${layers.lower}/f` });
  for (const [when, mode] of [
    ['mounted again', 0o604],
    ['and again', 0o640],
  ] as const) {
    await using overlay = await layers.mount();
    const path = overlay.file('f');
    t.is(text(await client.readFile({ path })), 'f at the bottom, changed', when);
    await client.chmod({ path, mode });
    t.like(await client.stat({ path }), { ino, nlink, mode: 0o100_000 | mode }, when);
    const upper = await client.stat({ path: `${layers.upper}/f` });
    t.like(upper, { nlink: 2, mode: 0o100_000 | mode }, `${when}: its name and the one in the index`);
  }
}

guestTest(
  'a file opened by its handle is copied up without a name, which it gets when it is looked for (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await indexed(guest, client);
    await client.link({ from: `${layers.lower}/f`, to: `${layers.lower}/f2` });
    await copiedByHandle(t, client, layers);
    await changedByName(t, client, layers, 2);
  },
);

guestTest('a file of one name that was copied up by its handle is no orphan (E17)', async (t, guest) => {
  guest.needs(guest.expected.overlaysWithDataLayers, 'counts of the links of files that have one');
  await using client = await guest.client();
  const layers = await indexed(guest, client);
  await copiedByHandle(t, client, layers);
  await changedByName(t, client, layers, 1);
});

/** What an overlay with an index asks for when a file that is copied up gets a further name; whether it is left. */
const LINKING: readonly (readonly [
  what: string,
  opcode: 'SETXATTR' | 'LOOKUP' | 'LINK',
  nth: number,
  left: boolean,
])[] = [
  ['the mark of its directory', 'SETXATTR', 1, false],
  ['the count of links before', 'SETXATTR', 2, false],
  ['the question for its name', 'LOOKUP', 1, false],
  ['its name', 'LINK', 1, false],
  ['the count of links after', 'SETXATTR', 3, true],
];

/** What a copy-up of a directory asks for that gets an entry in the index; how many of these it leaves. */
const INDEXING: readonly (readonly [
  what: string,
  opcode: 'MKDIR' | 'SETXATTR' | 'LOOKUP' | readonly ('RENAME' | 'RENAME2')[],
  nth: number,
  entries: number | undefined,
  path?: string,
])[] = [
  ['the entry', 'MKDIR', 2, 0],
  ['the question for a name to make it under', 'LOOKUP', 2, 0],
  // Origin and entry come in either order.
  ['an attribute', 'SETXATTR', 1, 0],
  ['another attribute', 'SETXATTR', 2, undefined],
  ['the question for its name', 'LOOKUP', 3, 0],
  ['its name', ['RENAME', 'RENAME2'], 1, 0],
  ['the question for the name of the directory', 'LOOKUP', 1, 1, '/upper/NAME'],
  ['the name of the directory', ['RENAME', 'RENAME2'], 2, 1],
];

const EXPORTED = { init: { ...WITHOUT_PASSTHROUGH, addFlags: ['EXPORT_SUPPORT'] } } as const;

guestTest(
  'the second name of a file is one step after the other, each of which may fail (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client, 'index=on', EXPORTED);
    const { overlay, fuse, lower } = stack;
    for (const [at, [what, opcode, nth, left]] of LINKING.entries()) {
      const [a, b] = [`x${at}/a`, `y${at}/b`];
      await fill(client, lower, [`x${at}/`, `y${at}/`, a]);
      await client.link({ from: `${lower}/${a}`, to: `${lower}/${b}` });
      for (const name of [a, `y${at}`]) await client.chmod({ path: overlay.file(name), mode: 0o700 });
      await client.stat({ path: overlay.file(b) });
      const permit = await fuse.rule({
        match: { opcode, ...(opcode === 'LOOKUP' ? { path: `/upper/${b}` } : {}) },
        nth,
        times: 1,
        action: { do: 'error', errno: 'EDQUOT' },
      });
      const change = () => client.errno.chmod({ path: overlay.file(b), mode: 0o711 });
      t.is(await change(), 'EDQUOT', what);
      await permit();
      t.is(await client.errno.lstat({ path: fuse.backing(`upper/${b}`) }), left ? 'ok' : 'ENOENT', what);
      t.is(await change(), 'ok', `${what}: and then not`);
      const { ino } = await client.stat({ path: fuse.backing(`upper/${a}`) });
      t.is((await client.stat({ path: fuse.backing(`upper/${b}`) })).ino, ino, `${what}: one file`);
      for (const name of [a, b]) {
        t.like(await client.stat({ path: overlay.file(name) }), { nlink: 2, mode: 0o100_711 }, what);
      }
    }
  },
);

guestTest('a directory whose entry in the index cannot be made is not copied up (E17)', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await upperOnFuse(guest, client, WITH_HANDLES, EXPORTED);
  const { overlay, fuse, lower } = stack;
  const before = await client.readdir({ path: fuse.backing(INDEX_DIR) });
  for (const [at, [what, opcode, nth, entries, path]] of INDEXING.entries()) {
    const name = `d${at}`;
    await fill(client, lower, [`${name}/`]);
    await client.stat({ path: overlay.file(name) });
    const there = await client.readdir({ path: fuse.backing(INDEX_DIR) });
    const match = { opcode, path: path?.replace('NAME', name) };
    const permit = await fuse.rule({ match, nth, times: 1, action: { do: 'error', errno: 'EDQUOT' } });
    const change = () => client.errno.chmod({ path: overlay.file(name), mode: 0o711 });
    t.is(await change(), 'EDQUOT', what);
    await permit();
    t.is(await client.errno.lstat({ path: fuse.backing(`upper/${name}`) }), 'ENOENT', `${what}: upper layer`);
    const left = await client.readdir({ path: fuse.backing(INDEX_DIR) });
    if (entries !== undefined) t.is(left.length - there.length, entries, `${what}: the index`);
    t.deepEqual(/#/.exec(left.join()), null, `${what}: nothing in the making`);
    t.is(await change(), 'ok', `${what}: and then not`);
    t.is((await client.stat({ path: fuse.backing(`upper/${name}`) })).mode & 0o777, 0o711, what);
    const now = await client.readdir({ path: fuse.backing(INDEX_DIR) });
    t.is(now.length, before.length + at + 1, `${what}: one entry`);
  }
});
