import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill, layersOf, over } from '../lib/layers.ts';
import { upperOn } from '../lib/stack.ts';
import { overlayRequest, type OverlayOptions } from '../lib/stacked-mount.ts';

/** Directories that cannot be layers of one overlay, or of two at a time (filesystems/overlayfs.rst). */

const LONG_AGO_NS = 1_500_000_000_000_000_000;
/** Later than any change: an access time that is relative to those stays as it is. */
const TO_COME_NS = 4_000_000_000_000_000_000;

async function errnoOf(
  guest: TestGuest,
  client: Client,
  layers: OverlayOptions,
  options: string,
): Promise<string> {
  return guest.mountErrno(overlayRequest({ ...layers, options }), client);
}

guestTest(
  'with index=on the directories of a mounted overlay are its own, without it they may be shared (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    const first = await upperOn(guest);
    await fill(client, first.upper, ['sub/']);
    const sub = `${first.upper}/sub`;
    /** Each of them with directories of its own for the rest: an index remembers with whom it was mounted. */
    const shared = async (): Promise<Readonly<Record<string, OverlayOptions>>> => ({
      'its upper layer': { lower, ...(await upperOn(guest)), upper: first.upper },
      'its upper layer as a lower one': { lower: first.upper, ...(await upperOn(guest)) },
      'a directory of its upper layer': { lower, ...(await upperOn(guest)), upper: sub },
      'a directory of its upper layer as a lower one': { lower: sub, ...(await upperOn(guest)) },
      'a directory of its upper layer as work directory': { lower, ...(await upperOn(guest)), work: sub },
    });
    // With index=on alone: two overlays with one work directory would clean up after each other.
    const sameWork = { lower, ...(await upperOn(guest)), work: first.work };
    {
      await using _overlay = await guest.mountOverlay({ lower, ...first }, client);
      t.is(await errnoOf(guest, client, sameWork, 'index=on'), 'EBUSY', 'its work directory');
      for (const [what, layers] of Object.entries(await shared())) {
        t.is(await errnoOf(guest, client, layers, 'index=on'), 'EBUSY', what);
      }
      for (const [what, layers] of Object.entries(await shared())) {
        t.is(await errnoOf(guest, client, layers, 'index=off'), 'ok', `${what}, with index=off`);
      }
      // The last that is done with this overlay, whose work directory is gone then.
      t.is(await errnoOf(guest, client, sameWork, 'index=off'), 'ok', 'its work directory, with index=off');
    }
    t.is(await errnoOf(guest, client, { lower, ...first }, 'index=on'), 'ok', 'when it is unmounted');
  },
);

guestTest(
  'with index=on upper layer, lower layer and work directory stay together (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const [lower, other] = [await guest.directory('ext4', 'lower'), await guest.directory('ext4', 'other')];
    const [first, another] = [await upperOn(guest), await guest.directory('ext4', 'another')];
    const mixed: readonly (readonly [string, OverlayOptions, string])[] = [
      ['the first time', { lower, ...first }, 'ok'],
      ['with another lower layer', { lower: other, ...first }, 'ESTALE'],
      ['with another layer below that', { lower: [lower, other], ...first }, 'ok'],
      ['with another layer above that', { lower: [other, lower], ...first }, 'ESTALE'],
      ['another upper layer with its work directory', { lower, ...first, upper: another }, 'ESTALE'],
      ['as it was', { lower, ...first }, 'ok'],
    ];
    for (const [what, layers, errno] of mixed) {
      t.is(await errnoOf(guest, client, layers, 'index=on'), errno, what);
    }
  },
);

guestTest('layers of one overlay are neither the same nor in each other', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'lower');
  await fill(client, lower, ['sub/', 'sub/sub/']);
  const { upper, work } = await upperOn(guest);
  await fill(client, upper, ['sub/']);
  await fill(client, work, ['sub/']);
  const overlapping: Readonly<Record<string, OverlayOptions>> = {
    'a lower layer twice': { lower: [lower, lower] },
    'a lower layer and a directory of it': { lower: [lower, `${lower}/sub/sub`] },
    'a directory and the lower layer that it is of': { lower: [`${lower}/sub/sub`, lower] },
    'the upper layer as a lower one': { lower: upper, upper, work },
    'a directory of the upper layer as a lower one': { lower: `${upper}/sub`, upper, work },
    'the work directory as a lower layer': { lower: work, upper, work },
    'a directory of the work directory as a lower layer': { lower: `${work}/sub`, upper, work },
  };
  for (const [what, layers] of Object.entries(overlapping)) {
    t.is(await errnoOf(guest, client, layers, 'index=off'), 'ELOOP', what);
  }
  t.is(await errnoOf(guest, client, { lower, upper, work }, 'index=off'), 'ok', 'none of this');
});

guestTest('an upper layer that is in a lower one cannot be reached through the overlay', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'lower');
  await fill(client, lower, ['up/', 'up/f', 'work/', 'other/', 'other/f']);
  await using overlay = await guest.mountOverlay(
    { lower, upper: `${lower}/up`, work: `${lower}/work` },
    client,
  );
  t.deepEqual(await client.readdir({ path: overlay.path }), ['f', 'other', 'up', 'work']);
  for (const name of ['up', 'work']) {
    t.is(await client.errno.stat({ path: overlay.file(name) }), 'ELOOP', name);
  }
  t.is(await client.errno.stat({ path: overlay.file('other/f') }), 'ok');
});

guestTest(
  'upper layer and work directory are on one mount, and on one that can be written',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    const both = await guest.directory('ext4', 'both');
    await fill(client, both, ['upper/', 'work/']);
    const bound = await guest.directory('area', 'bound');
    await client.mount({ source: both, target: bound, type: 'none', flags: 'MS_BIND' });
    const errno = (upper: string, work: string): Promise<string> =>
      errnoOf(guest, client, { lower, upper: `${upper}/upper`, work: `${work}/work` }, 'index=off');
    t.is(await errno(both, bound), 'EINVAL', 'the work directory on another mount of the filesystem');
    t.is(await errno(bound, both), 'EINVAL', 'the upper layer on another mount');
    t.is(await errno(bound, bound), 'ok', 'both there');
    const remount = { source: '', target: bound, type: '', flags: 'MS_REMOUNT|MS_BIND|MS_RDONLY' };
    await client.mount(remount);
    t.is(await errno(bound, bound), 'EINVAL', 'a read-only mount of a filesystem that is not');
    await client.umount2({ target: bound });
  },
);

guestTest('an overlay is no upper layer of another one', async (t, guest) => {
  await using client = await guest.client();
  const [lower, first] = [await guest.directory('ext4', 'lower'), await upperOn(guest)];
  await fill(client, first.upper, ['upper/', 'work/']);
  await using overlay = await guest.mountOverlay({ lower, ...first }, client);
  const [upper, work] = [overlay.file('upper'), overlay.file('work')];
  t.is(await errnoOf(guest, client, { lower, upper, work }, 'index=off'), 'EINVAL');
  t.is(await errnoOf(guest, client, { lower: [upper, lower] }, 'index=off'), 'ok', 'a lower one it may be');
});

guestTest(
  'access times change on an overlay whose upper layer comes from a mount without them',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    const both = await guest.directory('ext4', 'both');
    await fill(client, both, ['upper/', 'upper/f', 'work/']);
    const bound = await guest.directory('area', 'bound');
    await client.mount({ source: both, target: bound, type: 'none', flags: 'MS_BIND' });
    const remount = { source: '', target: bound, type: '', flags: 'MS_REMOUNT|MS_BIND|MS_NOATIME' };
    await client.mount(remount);
    const after = async (path: string): Promise<number> => {
      await client.utimens({ path: `${both}/upper/f`, atimeNs: LONG_AGO_NS, mtimeNs: null });
      await client.readFile({ path });
      return (await client.stat({ path: `${both}/upper/f` })).atimeNs;
    };
    t.is(await after(`${bound}/upper/f`), LONG_AGO_NS, 'read on that mount');
    {
      const layers = { lower, upper: `${bound}/upper`, work: `${bound}/work` };
      await using overlay = await guest.mountOverlay(layers, client);
      t.not(await after(overlay.file('f')), LONG_AGO_NS, 'read on the overlay');
    }
    await client.umount2({ target: bound });
  },
);

guestTest(
  'access times of an overlay change as its own mount has it, not as that of the upper layer has it',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    const both = await guest.directory('ext4', 'both');
    await fill(client, both, ['upper/', 'upper/f', 'upper/d/', 'work/']);
    const bound = await guest.directory('area', 'bound');
    await client.mount({ source: both, target: bound, type: 'none', flags: 'MS_BIND' });
    // Which is relative to other times as well, as all mounts are that say nothing else.
    await guest.run(['mount', '-o', 'remount,bind,nodiratime', bound]);
    const after = async (at: string, name: 'f' | 'd', before: number): Promise<number> => {
      const path = `${both}/upper/${name}`;
      await client.utimens({ path, atimeNs: before, mtimeNs: null });
      if (name === 'f') await client.readFile({ path: `${at}/f` });
      else await client.readdir({ path: `${at}/d` });
      return (await client.stat({ path })).atimeNs;
    };
    t.is(await after(`${bound}/upper`, 'd', LONG_AGO_NS), LONG_AGO_NS, 'a directory read on that mount');
    t.is(await after(`${bound}/upper`, 'f', TO_COME_NS), TO_COME_NS, 'a file read on that mount');
    {
      const layers = { lower, upper: `${bound}/upper`, work: `${bound}/work` };
      await using overlay = await guest.mountOverlay(layers, client);
      t.not(await after(overlay.path, 'd', LONG_AGO_NS), LONG_AGO_NS, 'a directory read on the overlay');
      const flags = 'MS_REMOUNT|MS_BIND|MS_STRICTATIME';
      await client.mount({ source: '', target: overlay.path, type: '', flags });
      t.not(await after(overlay.path, 'f', TO_COME_NS), TO_COME_NS, 'a file, with strict access times');
    }
    await client.umount2({ target: bound });
  },
);

guestTest('a directory that is read on an overlay without access times keeps its own', async (t, guest) => {
  await using client = await guest.client();
  const layers = await layersOf(guest, 2);
  await fill(client, layers[1] ?? '', ['d/', 'd/f']);
  await using overlay = await over(guest, client, layers);
  const read = async (): Promise<number> => {
    const path = `${layers[1]}/d`;
    await client.utimens({ path, atimeNs: LONG_AGO_NS, mtimeNs: null });
    await client.readdir({ path: overlay.file('d') });
    return (await client.stat({ path })).atimeNs;
  };
  t.not(await read(), LONG_AGO_NS, 'with access times');
  const remount = { source: '', target: overlay.path, type: '', flags: 'MS_REMOUNT|MS_BIND|MS_NOATIME' };
  await client.mount(remount);
  t.is(await read(), LONG_AGO_NS, 'without');
});

guestTest('a mount that is not to be bound elsewhere has no layers', async (t, guest) => {
  await using client = await guest.client();
  const [lower, both] = [await guest.directory('ext4', 'lower'), await guest.directory('ext4', 'both')];
  await fill(client, both, ['upper/', 'work/', 'lower/']);
  await using bound = await guest.mount({ source: both, type: 'none', flags: 'MS_BIND' }, client);
  const [upper, work] = [bound.file('upper'), bound.file('work')];
  const all = async (): Promise<string[]> => [
    await errnoOf(guest, client, { lower, upper, work }, 'index=off'),
    await errnoOf(guest, client, { lower: [lower, bound.file('lower')] }, 'index=off'),
  ];
  t.deepEqual(await all(), ['ok', 'ok'], 'as upper and as lower layer');
  await client.mount({ source: '', target: bound.path, type: '', flags: 'MS_UNBINDABLE' });
  t.deepEqual(await all(), ['EINVAL', 'EINVAL'], 'unbindable');
});
