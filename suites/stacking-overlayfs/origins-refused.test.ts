import { basename, dirname } from 'node:path';
import { SyscallError, type Client, type FileHandle } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill } from '../lib/layers.ts';
import { whereTo, WITH_HANDLES } from '../lib/overlay-handles.ts';
import {
  answerNamed,
  indexEntries,
  layersOnFuse,
  upperOnFuse,
  type LayersOnFuse,
} from '../lib/overlay-on-fuse.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';
import { upperOn } from '../lib/stack.ts';

/** Files that a layer's server does not find by their handles, and handles that it does not let be remembered. */

const ORIGIN = 'trusted.overlay.origin';
const EXPORTED = { init: { ...WITHOUT_PASSTHROUGH, addFlags: ['EXPORT_SUPPORT'] } } as const;

/** Layers on FUSE whose server knows every file by its number for good. */
async function lastingLayers(guest: TestGuest, client: Client): Promise<LayersOnFuse> {
  const layers = await layersOnFuse(guest, client);
  await layers.fuse.fail({ opcode: ['FORGET', 'BATCH_FORGET'] }, 'ENOENT');
  return layers;
}

/** Has the kernel forget a file, which no overlay has any more, so that its server is asked for it by its handle. */
async function forgotten(fuse: FuseMount, ...paths: string[]): Promise<void> {
  const after = await fuse.position();
  for (const path of paths) await fuse.notify({ parent: dirname(path), name: basename(path) });
  await fuse.waitFor({ opcode: ['FORGET', 'BATCH_FORGET'], after }, 'arrived');
}

/** What the server says when it is asked for a file by its handle, and what comes of it. */
const ANSWERS = {
  ENOENT: 'unknown',
  ESTALE: 'unknown',
  EIO: 'unknown',
  EACCES: 'unknown',
  ETIMEDOUT: 'unknown',
  ENOMEM: 'ENOMEM',
} as const;

guestTest(
  'a copied file whose lower one is not found has its own number, and is an error where that is for want of memory (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    await using layers = await lastingLayers(guest, client);
    const { fuse } = layers;
    const numberIn = async (layer: string): Promise<number> =>
      (await client.stat({ path: fuse.file(`${layer}/f`) })).ino;
    await fill(client, fuse.backing('lower'), ['f']);
    {
      await using overlay = await layers.mount();
      await client.chmod({ path: overlay.file('f'), mode: 0o604 });
    }
    const nodeid = await fuse.nodeid('/lower/f');
    for (const [errno, outcome] of Object.entries(ANSWERS)) {
      await forgotten(fuse, '/lower/f');
      await using overlay = await layers.mount();
      const after = await fuse.position();
      const permit = await fuse.fail({ opcode: 'LOOKUP', nodeid }, errno);
      const path = overlay.file('f');
      t.is(await client.errno.stat({ path }), outcome === 'unknown' ? 'ok' : outcome, errno);
      const [asked] = await fuse.requests({ opcode: 'LOOKUP', nodeid, after });
      t.is(asked?.args['name'], '.', `${errno}: the server is asked for the node itself`);
      await permit();
      const known = outcome !== 'unknown';
      const { ino } = await client.stat({ path });
      t.is(ino, await numberIn(known ? 'lower' : 'upper'), `${errno}: the number, later`);
      await overlay.unmount();
      await using again = await layers.mount();
      t.is(
        (await client.stat({ path: again.file('f') })).ino,
        await numberIn('lower'),
        `${errno}: mounted again`,
      );
    }
  },
);

async function mountErrno(layers: LayersOnFuse, options: string): Promise<string> {
  try {
    await using _overlay = await layers.mount(options);
    return 'ok';
  } catch (error) {
    if (error instanceof SyscallError) return error.errno;
    throw error;
  }
}

guestTest(
  'what an index has of a file that is not found is removed, and the overlay not mounted for want of memory (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    for (const [errno, outcome] of Object.entries(ANSWERS)) {
      await using layers = await lastingLayers(guest, client);
      const { fuse } = layers;
      await fill(client, fuse.backing('lower'), ['f']);
      await client.link({ from: fuse.file('lower/f'), to: fuse.file('lower/g') });
      const nodeid = await fuse.nodeid('/lower/f');
      {
        await using overlay = await layers.mount('index=on');
        await client.chmod({ path: overlay.file('f'), mode: 0o604 });
      }
      // It has no name but the one in the index now, and may be an orphan.
      await client.unlink({ path: fuse.file('upper/f') });
      const entries = async (): Promise<number> => (await indexEntries(client, fuse)).length;
      t.is(await mountErrno(layers, 'index=on'), 'ok', 'while the lower file is found');
      t.is(await entries(), 1, 'it has another name there');
      await forgotten(fuse, '/lower/f', '/lower/g');
      const permit = await fuse.fail({ opcode: 'LOOKUP', nodeid }, errno);
      t.is(await mountErrno(layers, 'index=on'), outcome === 'unknown' ? 'ok' : outcome, errno);
      t.is(await entries(), outcome === 'unknown' ? 0 : 1, `${errno}: entries`);
      await permit();
      t.is(await mountErrno(layers, 'index=on'), 'ok', `${errno}: later`);
    }
  },
);

/** By name, where its server has what a handle is decoded to first, or after the index: what was copied up has two. */
const HANDLES = {
  f: ['/lower/f'],
  d: ['/lower/d'],
  copied: ['/lower/copied', '/upper/copied'],
  new: ['/upper/new'],
  newdir: ['/upper/newdir'],
} as const;

guestTest(
  'a handle that the server of its layer does not find is stale, and ENOMEM where there is no memory (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    await using layers = await lastingLayers(guest, client);
    const { fuse } = layers;
    await fill(client, fuse.backing('lower'), ['f', 'd/', 'copied/']);
    const handles = new Map<string, FileHandle>();
    {
      await using overlay = await layers.mount(WITH_HANDLES);
      await fill(client, overlay.path, ['new', 'newdir/']);
      await client.chmod({ path: overlay.file('copied'), mode: 0o711 });
      for (const name of Object.keys(HANDLES)) {
        handles.set(name, await client.nameToHandle({ path: overlay.file(name) }));
      }
    }
    for (const errno of ['ENOENT', 'EIO', 'ENOMEM'] as const) {
      const outcome = ANSWERS[errno];
      for (const [name, real] of Object.entries(HANDLES)) {
        const handle = handles.get(name) ?? { type: 0, handle: new Uint8Array() };
        for (const path of real) {
          const nodeid = await fuse.nodeid(path);
          await using overlay = await layers.mount(WITH_HANDLES);
          // The mount has looked at what its index has.
          await forgotten(fuse, path);
          const permit = await fuse.fail({ opcode: 'LOOKUP', nodeid }, errno);
          const stale = outcome === 'unknown' ? 'ESTALE' : outcome;
          t.is(await whereTo(client, overlay.path, handle), stale, `${errno} for ${path}: ${name}`);
          await permit();
          t.not(await whereTo(client, overlay.path, handle), stale, `${errno} for ${path}: ${name}, later`);
        }
      }
    }
  },
);

/** By what the upper server says to the mark of the lower file: what copying it up gives, and whether it is marked. */
const MARKS: readonly (readonly [answer: string, outcome: string])[] = [
  ['EPERM', 'ok'],
  ['EACCES', 'EACCES'],
  ['ENODATA', 'ENODATA'],
  ['ENOSPC', 'ENOSPC'],
  ['ERANGE', 'ERANGE'],
  ['E2BIG', 'E2BIG'],
  ['EINTR', 'EINTR'],
  ['EOPNOTSUPP', 'ok'],
];

guestTest(
  'a file is copied up without the mark of its lower one where that may not be set, and not at all for any other reason (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client, undefined, EXPORTED);
    const { overlay, fuse, lower } = stack;
    for (const [answer, outcome] of MARKS) {
      const name = `f-${answer}`;
      await fill(client, lower, [name]);
      const change = () => client.errno.chmod({ path: overlay.file(name), mode: 0o604 });
      const refuse = { do: 'error', errno: answer } as const;
      const mark = { opcode: 'SETXATTR', name: ORIGIN } as const;
      t.is(await answerNamed(fuse, mark, refuse, change), outcome, answer);
      const copy = { path: fuse.backing(`upper/${name}`), name: ORIGIN };
      if (outcome === 'ok') {
        t.is(await client.errno.getxattr(copy), 'ENODATA', `${answer}: a copy without a mark`);
        continue;
      }
      t.is(await client.errno.lstat({ path: copy.path }), 'ENOENT', `${answer}: no copy`);
      t.is(await change(), 'ok', `${answer}: and then not`);
      t.is(await client.errno.getxattr(copy), 'ok', `${answer}: marked`);
    }
    // The server has said at last that it knows no attributes.
    await fill(client, lower, ['last']);
    const after = await fuse.position();
    t.is(await client.errno.chmod({ path: overlay.file('last'), mode: 0o604 }), 'ok');
    t.deepEqual(await fuse.requests({ opcode: 'SETXATTR', after }), [], 'it is not asked any more');
  },
);

guestTest(
  'with userxattr what can have no attributes of users is copied up without them',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    await fill(client, lower, ['file']);
    await client.mknod({ path: `${lower}/fifo`, mode: 0o010_644 });
    await client.symlink({ path: `${lower}/link`, target: 'file' });
    const layers = await upperOn(guest);
    await using overlay = await guest.mountOverlay({ lower, ...layers, options: 'userxattr' }, client);
    for (const name of ['file', 'fifo']) {
      t.is(await client.errno.chmod({ path: overlay.file(name), mode: 0o604 }), 'ok', name);
      t.is((await client.lstat({ path: `${layers.upper}/${name}` })).mode & 0o777, 0o604, name);
    }
    t.is(await client.errno.rename({ from: overlay.file('link'), to: overlay.file('moved') }), 'ok');
    t.is(await client.readlink({ path: `${layers.upper}/moved` }), 'file');
    const mark = (name: string) =>
      client.errno.getxattr({ path: `${layers.upper}/${name}`, name: 'user.overlay.origin' });
    t.is(await mark('file'), 'ok', 'a file has its mark');
    t.is(await mark('fifo'), 'ENODATA', 'a fifo has none');
  },
);

guestTest.alone(
  'what a lower overlay gives no handle for cannot be copied up, and can when it does (E17)',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'handles that are refused without a warning');
    await using client = await guest.client();
    await using layers = await layersOnFuse(guest, client);
    const { fuse } = layers;
    await fill(client, fuse.backing('lower'), ['d/', 'd/s/', 'd/s/f']);
    {
      // Copied up without an index: for a handle of what is in it that has to be copied up as well.
      await using overlay = await layers.mount();
      await client.chmod({ path: overlay.file('d'), mode: 0o700 });
    }
    await using inner = await layers.mount(WITH_HANDLES);
    const upper = await upperOn(guest);
    await using overlay = await guest.mountOverlay({ lower: inner.path, ...upper }, client);
    const change = () => client.errno.chmod({ path: overlay.file('d/s'), mode: 0o711 });
    const permit = await fuse.fail('MKDIR', 'ENOSPC');
    t.is(await change(), 'EIO');
    t.is(await client.errno.lstat({ path: `${upper.upper}/d/s` }), 'ENOENT', 'no copy');
    t.is(await client.errno.lstat({ path: fuse.backing('upper/d/s') }), 'ENOENT', 'nor in the lower overlay');
    await permit();
    t.is(await change(), 'ok', 'later');
    t.is((await client.stat({ path: `${upper.upper}/d/s` })).mode & 0o777, 0o711);
    t.is(
      await client.errno.lstat({ path: fuse.backing('upper/d/s') }),
      'ok',
      'the lower overlay has copied it',
    );
    t.deepEqual(await client.readdir({ path: overlay.file('d/s') }), ['f']);
  },
);
