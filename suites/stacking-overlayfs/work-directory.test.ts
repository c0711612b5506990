import { aclFor } from '../lib/access-control-list.ts';
import type { Client } from '../lib/client.ts';
import { directoryAnswer } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill } from '../lib/layers.ts';
import {
  INDEX_DIR,
  indexEntries,
  layersOnFuse,
  type LayersOnFuse,
  WORK_DIR,
} from '../lib/overlay-on-fuse.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';
import { upperOn } from '../lib/stack.ts';
import { overlayRequest } from '../lib/stacked-mount.ts';

/** What an overlay finds in its work directory when it is mounted, and in its index. */

/** By what is left in the work directory: whether it can be cleaned, without which there is no writing. */
const LEFT: Readonly<Record<string, { readonly names: readonly string[]; readonly cleaned: boolean }>> = {
  nothing: { names: [], cleaned: true },
  files: { names: ['f', '.a', '..b', '.abc'], cleaned: true },
  'an empty directory': { names: ['d/', '.e/'], cleaned: true },
  'a directory with files': { names: ['d/', 'd/f', 'd/.a', 'd/..b'], cleaned: true },
  'an empty directory in one': { names: ['d/', 'd/e/', 'incomplete/', 'incomplete/e/'], cleaned: true },
  'a name that begins with a dot where features are named': {
    names: ['incompat/', 'incompat/.a', 'incompat/..b'],
    cleaned: true,
  },
  'a directory with a file in one': { names: ['d/', 'd/e/', 'd/e/f'], cleaned: false },
};

guestTest(
  'what is left in a work directory is removed, two directories deep, or nothing can be written',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    for (const [what, { names, cleaned }] of Object.entries(LEFT)) {
      const layers = await upperOn(guest);
      await fill(client, layers.work, ['work/', ...names.map((name) => `work/${name}`)]);
      await using overlay = await guest.mountOverlay({ lower, ...layers }, client);
      const writes = await client.errno.mkdir({ path: overlay.file('new') });
      t.is(writes, cleaned ? 'ok' : 'EROFS', what);
      const remount = { source: 'overlay', target: overlay.path, type: 'overlay', flags: 'MS_REMOUNT' };
      const writable = await client.errno.mount(remount);
      t.is(writable, cleaned ? 'ok' : 'EROFS', `${what}: remounted to be written`);
      if (cleaned) t.deepEqual(await client.readdir({ path: `${layers.work}/work` }), [], what);
    }
  },
);

guestTest(
  'what an overlay tries when it is mounted leaves nothing in its work directory',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    for (const options of [undefined, 'index=on', 'userxattr']) {
      const layers = await upperOn(guest);
      const message = options ?? 'no option';
      await using _overlay = await guest.mountOverlay({ lower, ...layers, options }, client);
      const path = `${layers.work}/work`;
      t.deepEqual(await client.readdir({ path }), [], `${message}: names`);
      const marks = (await client.listxattr({ path })).filter((name) => name.includes('overlay'));
      t.deepEqual(marks, [], `${message}: marks of it`);
      t.deepEqual(await client.readdir({ path: layers.upper }), [], `${message}: the upper layer`);
    }
  },
);

guestTest(
  'a work directory has neither mode bits nor lists, whatever the directory gives that it is made in',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    for (const [options, name] of [
      ['index=off', 'work'],
      ['index=on', 'index'],
    ] as const) {
      const layers = await upperOn(guest);
      const data = aclFor([1500], 7);
      await client.setxattr({ path: layers.work, name: 'system.posix_acl_default', data });
      await client.chown({ path: layers.work, uid: 0, gid: 1600 });
      await client.chmod({ path: layers.work, mode: 0o2770 });
      await using _overlay = await guest.mountOverlay({ lower, ...layers, options }, client);
      const path = `${layers.work}/${name}`;
      t.is(((await client.stat({ path })).mode & 0o7777).toString(8), '0', `${name}: its mode`);
      for (const kind of ['access', 'default']) {
        const list = { path, name: `system.posix_acl_${kind}` };
        t.is(await client.errno.getxattr(list), 'ENODATA', `${name}: no ${kind} list`);
      }
    }
  },
);

guestTest(
  'a work directory on FUSE is cleaned of what its server gives, and of nothing that is not there',
  async (t, guest) => {
    await using client = await guest.client();
    const { dropFlags = [] } = WITHOUT_PASSTHROUGH;
    const init = { dropFlags: [...dropFlags, 'DO_READDIRPLUS'] } as const;
    const writes = async (layers: LayersOnFuse) => {
      await using overlay = await layers.mount();
      return await client.errno.mkdir({ path: overlay.file('new') });
    };
    const left = `/${WORK_DIR}`;
    {
      await using layers = await layersOnFuse(guest, client, { init });
      const { fuse } = layers;
      await fill(client, fuse.backing('work'), ['work/', 'work/f', 'work/other']);
      const open = await fuse.fail({ opcode: 'OPENDIR', path: left }, 'ENFILE');
      t.is(await writes(layers), 'EROFS', 'it cannot be read');
      await open();
      const find = await fuse.fail({ opcode: 'LOOKUP', path: `${left}/f` }, 'EUCLEAN');
      t.is(await writes(layers), 'EROFS', 'a name of it cannot be looked up');
      t.deepEqual(await client.readdir({ path: fuse.backing(WORK_DIR) }), ['f'], 'the other is removed');
      await find();
      t.is(await writes(layers), 'ok', 'all of it is there');
    }
    await using layers = await layersOnFuse(guest, client, { init });
    const { fuse } = layers;
    await fill(client, fuse.backing('work'), ['work/', 'work/f']);
    const names = ['ghost', 'f'].map((name, nth) => ({ name, ino: BigInt(nth + 1), type: 8 }));
    const match = { opcode: 'READDIR', path: left } as const;
    await fuse.rule({ match, times: 1, nth: 2, action: { do: 'body', body: new Uint8Array() } });
    await fuse.rule({ match, times: 1, action: { do: 'body', body: directoryAnswer(names) } });
    t.is(await writes(layers), 'ok', 'a name that is listed and not there');
  },
);

guestTest('an upper layer on FUSE has to say of what type its names are', async (t, guest) => {
  await using client = await guest.client();
  const { dropFlags = [] } = WITHOUT_PASSTHROUGH;
  const init = { dropFlags: [...dropFlags, 'DO_READDIRPLUS'] } as const;
  const [DIRECTORY, UNKNOWN] = [4, 0];
  for (const [type, errno] of [
    [UNKNOWN, 'EINVAL'],
    [DIRECTORY, 'ok'],
  ] as const) {
    await using layers = await layersOnFuse(guest, client, { init });
    const { fuse } = layers;
    const dots = ['.', '..'].map((name) => ({ name, ino: 1n, type: DIRECTORY }));
    const match = { opcode: 'READDIR', path: '/work' } as const;
    await fuse.rule({ match, action: { do: 'body', body: new Uint8Array() } });
    const body = directoryAnswer([...dots, { name: 'work', ino: 2n, type }]);
    await fuse.rule({ match, times: 1, action: { do: 'body', body } });
    t.is(await mountErrno(guest, client, layers), errno, `type ${type}`);
  }
  await using layers = await layersOnFuse(guest, client, { init });
  await layers.fuse.fail({ opcode: 'OPENDIR', path: '/work' }, 'ENFILE');
  t.is(await mountErrno(guest, client, layers), 'ENFILE', 'a work directory that cannot be read');
});

function mountErrno(
  guest: TestGuest,
  client: Client,
  layers: LayersOnFuse,
  options?: string,
): Promise<string> {
  const [lower, upper, work] = ['lower', 'upper', 'work'].map((name) => layers.fuse.file(name));
  return guest.mountErrno(overlayRequest({ lower: lower ?? '', upper, work, options }), client);
}

// --- the index --------------------------------------------------------------------------------------------

/** By what is found in an index besides its own: whether the overlay is mounted, and what is left of it. */
const INDEX: Readonly<Record<string, { readonly names: readonly string[]; readonly errno: string }>> = {
  'leftovers of its own making': { names: ['#1', '#2/', '#3/', '#3/f'], errno: 'ok' },
  'a short name': { names: ['abc'], errno: 'EINVAL' },
  'a name that begins with a dot': { names: ['.a'], errno: 'EINVAL' },
  'a name that begins with two dots': { names: ['..b'], errno: 'EINVAL' },
  'a name of three dots': { names: ['...'], errno: 'EINVAL' },
  'a long name that is no number': { names: ['x'.repeat(64)], errno: 'EINVAL' },
  'a number that is no file handle': { names: ['00'.repeat(32)], errno: 'EINVAL' },
};

guestTest(
  'an overlay with an index of which a name is none of its own is not mounted, and is without an index (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    for (const [what, { names, errno }] of Object.entries(INDEX)) {
      const layers = await upperOn(guest);
      await fill(client, layers.work, ['index/', ...names.map((name) => `index/${name}`)]);
      const mount = (options: string) =>
        guest.mountErrno(overlayRequest({ lower, ...layers, options }), client);
      t.is(await mount('index=on'), errno, what);
      if (errno === 'ok') t.deepEqual(await client.readdir({ path: `${layers.work}/index` }), [], what);
      t.is(await mount('index=off'), 'ok', `${what}, with index=off`);
    }
  },
);

/** An index on FUSE with two entries, of which one has no files any more, and their paths for the server. */
async function staleIndex(guest: TestGuest, client: Client) {
  const layers = await layersOnFuse(guest, client);
  const { fuse } = layers;
  for (const name of ['stays', 'stale']) {
    await fill(client, fuse.backing('lower'), [name]);
    await client.link({ from: fuse.file(`lower/${name}`), to: fuse.file(`lower/${name}2`) });
  }
  {
    await using overlay = await layers.mount('index=on');
    for (const name of ['stays', 'stale']) await client.chmod({ path: overlay.file(name), mode: 0o600 });
  }
  await client.unlink({ path: fuse.file('upper/stale') });
  for (const name of ['stale', 'stale2']) await client.unlink({ path: fuse.file(`lower/${name}`) });
  const entries = async () => (await indexEntries(client, fuse)).map((name) => `/${INDEX_DIR}/${name}`);
  return { layers, fuse, entries };
}

for (const [title, opcodes] of [
  [
    'an overlay is not mounted while the server of its index does not give what is in it',
    ['OPENDIR', 'LOOKUP'],
  ],
  ['an overlay is not mounted while what is stale in its index cannot be removed', ['UNLINK']],
] as const) {
  guestTest(`${title} (E17)`, async (t, guest) => {
    await using client = await guest.client();
    const { layers, fuse, entries } = await staleIndex(guest, client);
    await using _layers = layers;
    const paths = await entries();
    t.is(paths.length, 2);
    for (const opcode of opcodes) {
      const permits = [];
      for (const path of opcode === 'OPENDIR' ? [`/${INDEX_DIR}`] : paths) {
        permits.push(await fuse.fail({ opcode, path }, 'EUCLEAN'));
      }
      t.is(await mountErrno(guest, client, layers, 'index=on'), 'EUCLEAN', opcode);
      for (const permit of permits) await permit();
      t.deepEqual(await entries(), paths, `${opcode}: all are there`);
    }
    t.is(await mountErrno(guest, client, layers, 'index=on'), 'ok', 'later');
    t.is((await entries()).length, 1, 'without the one whose lower file is gone');
  });
}

guestTest(
  'an overlay is not mounted when its index has a leftover that it cannot remove (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    const layers = await upperOn(guest);
    await fill(client, layers.work, ['index/', 'index/#3/', 'index/#3/d/', 'index/#3/d/f']);
    const mount = (options: string) =>
      guest.mountErrno(overlayRequest({ lower, ...layers, options }), client);
    t.is(await mount('index=on'), 'ENOTEMPTY', 'a directory in it is not empty');
    await client.unlink({ path: `${layers.work}/index/#3/d/f` });
    t.is(await mount('index=on'), 'ok', 'a directory in it is empty');
    t.deepEqual(await client.readdir({ path: `${layers.work}/index` }), []);
  },
);

guestTest(
  'what has lost its last name without the overlay is a whiteout of its index with nfs_export (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    await fill(client, lower, ['f']);
    await client.link({ from: `${lower}/f`, to: `${lower}/g` });
    const layers = await upperOn(guest);
    const options = 'index=on,nfs_export=on,redirect_dir=on';
    const mount = () => guest.mountOverlay({ lower, ...layers, options }, client);
    const index = `${layers.work}/index`;
    const kinds = async () => {
      const found: number[] = [];
      for (const name of await client.readdir({ path: index })) {
        if (!name.startsWith('#'))
          found.push((await client.lstat({ path: `${index}/${name}` })).mode & 0o170_000);
      }
      return found;
    };
    let handle;
    {
      await using overlay = await mount();
      handle = await client.nameToHandle({ path: overlay.file('f') });
      await client.chmod({ path: overlay.file('f'), mode: 0o600 });
      await client.unlink({ path: overlay.file('g') });
      t.deepEqual(await kinds(), [0o100_000], 'a file that has one name left');
    }
    await client.unlink({ path: `${layers.upper}/f` });
    await using overlay = await mount();
    t.deepEqual(await kinds(), [0o020_000], 'a whiteout');
    const mountFd = await client.open({ path: overlay.path, flags: 'O_RDONLY|O_DIRECTORY' });
    t.is(await client.errno.openByHandle({ mountFd, ...handle, flags: 'O_RDONLY' }), 'ESTALE');
    await client.close({ fd: mountFd });
  },
);
