import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill } from '../lib/layers.ts';
import { overlayOptionsAt } from '../lib/mounted-at.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';
import { overlayRequest, type OverlayOptions } from '../lib/stacked-mount.ts';
import { upperOn } from '../lib/stack.ts';

/** Which options of an overlay are in effect where its layers or its mounter cannot have all of them. */

const USER_NAMESPACE = ['unshare', '--user', '--map-root-user', '--mount'];
/** Root who may not open files by their handles. */
const WITHOUT_HANDLES = ['setpriv', '--bounding-set', '-dac_read_search'];

/** Without the number that a first mount may give its new upper layer. */
async function shownAt(client: Client, path: string): Promise<string[]> {
  return (await overlayOptionsAt(client, path)).filter((option) => option !== 'uuid=on');
}

/** The errno, or the options that are in effect. */
async function outcomeOf(guest: TestGuest, client: Client, how: OverlayOptions): Promise<string[] | string> {
  const errno = await guest.mountErrno(overlayRequest(how), client);
  if (errno !== 'ok') return errno;
  await using overlay = await guest.mountOverlay(how, client);
  return await shownAt(client, overlay.path);
}

/** With an upper layer on the filesystem of the lower one. Linux 6.6 and later have verity. */
const VERITY: Readonly<Record<string, string | readonly string[]>> = {
  'verity=on': ['redirect_dir=on', 'metacopy=on', 'verity=on'],
  'verity=require': ['redirect_dir=on', 'metacopy=on', 'verity=require'],
  'verity=on,redirect_dir=on': ['redirect_dir=on', 'metacopy=on', 'verity=on'],
  'verity=on,nfs_export=on': ['redirect_dir=on', 'index=on', 'metacopy=on', 'verity=on'],
  'verity=off': [],
  'verity=off,metacopy=off': [],
  'verity=on,metacopy=off': 'EINVAL',
  'verity=on,redirect_dir=off': 'EINVAL',
  'verity=on,redirect_dir=nofollow': 'EINVAL',
  'verity=on,metacopy=on,nfs_export=on': 'EINVAL',
  'userxattr,verity=on': 'EINVAL',
  'userxattr,verity=off': ['redirect_dir=nofollow', 'userxattr'],
  'verity=perhaps': 'EINVAL',
  'uuid=null': ['uuid=null'],
};

guestTest(
  'verity takes metacopy and redirects with it, and excludes what these exclude',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'verity of overlays');
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    for (const [options, expected] of Object.entries(VERITY)) {
      const how = { lower, ...(await upperOn(guest)), options };
      t.deepEqual(await outcomeOf(guest, client, how), expected, options);
    }
  },
);

guestTest('options of an overlay are shown where they are not the default', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'lower');
  const later = guest.expected.overlaysWithDataLayers;
  const uuidOff = later ? ['uuid=null'] : [];
  const rows: readonly (readonly ['ext4' | 'tmpfs', string, RegExp | readonly string[]])[] = [
    ['ext4', 'userxattr,redirect_dir=nofollow', ['redirect_dir=nofollow', 'userxattr']],
    ['ext4', 'userxattr,metacopy=off', later ? ['redirect_dir=nofollow', 'userxattr'] : ['userxattr']],
    ['ext4', 'xino=on', []],
    ['ext4', 'xino=auto', []],
    ['ext4', 'uuid=off', ['uuid=off']],
    ['ext4', 'volatile', /^(fsync=)?volatile$/],
    ['tmpfs', 'xino=on', ['xino=on']],
    ['tmpfs', 'xino=auto', ['xino=auto']],
    ['tmpfs', 'xino=off', []],
    // It takes a single filesystem.
    ['tmpfs', 'uuid=off', uuidOff],
  ];
  for (const [place, options, expected] of rows) {
    await using overlay = await guest.mountOverlay(
      { lower, ...(await upperOn(guest, place)), options },
      client,
    );
    const shown = await shownAt(client, overlay.path);
    const what = `${options}, upper layer on ${place}`;
    if (expected instanceof RegExp) t.regex(shown.join(','), expected, what);
    else t.deepEqual(shown, expected, what);
  }
});

/** Linux 6.12.117 has the option; those that show `volatile` as a word of its own do not. */
guestTest('how an overlay syncs is shown where it was asked for', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'lower');
  const outcome = async (options: string) => {
    return outcomeOf(guest, client, { lower, ...(await upperOn(guest)), options });
  };
  guest.needs((await outcome('fsync=auto')) !== 'EINVAL', 'fsync option of overlays');
  t.deepEqual(await outcome('fsync=auto'), [], 'the default');
  t.deepEqual(await outcome('fsync=strict'), ['fsync=strict']);
  t.deepEqual(await outcome('volatile,fsync=strict'), ['fsync=strict'], 'the last one counts');
  t.is(await outcome('fsync=never'), 'EINVAL');
});

guestTest('options of an overlay without an upper layer', async (t, guest) => {
  await using client = await guest.client();
  const lower = [await guest.directory('ext4', 'lower'), await guest.directory('ext4', 'lower')];
  const outcome = await outcomeOf(guest, client, { lower });
  const plain = typeof outcome === 'string' ? [outcome] : outcome;
  const later = guest.expected.overlaysWithDataLayers;
  const rows: Readonly<Record<string, unknown>> = {
    'redirect_dir=nofollow': ['redirect_dir=nofollow'],
    'redirect_dir=nofollow,nfs_export=on': ['redirect_dir=nofollow', 'nfs_export=on'],
    // An index is ignored there, and excludes nothing either.
    'redirect_dir=nofollow,index=on,nfs_export=on': ['redirect_dir=nofollow', 'nfs_export=on'],
    'nfs_export=on': plain,
    'metacopy=on,redirect_dir=nofollow': 'EINVAL',
    'uuid=off': later ? [...plain, 'uuid=null'] : plain,
    ...(later ? { 'uuid=on': [...plain, 'uuid=null'] } : {}),
  };
  for (const [options, expected] of Object.entries(rows)) {
    t.deepEqual(await outcomeOf(guest, client, { lower, options }), expected, options);
  }
});

/** By options, what a mount by root of a user namespace gives: no attributes below trusted are to be had there. */
const IN_A_NAMESPACE: Readonly<Record<string, 'ok' | 'EPERM'>> = {
  'redirect_dir=on': 'EPERM',
  'redirect_dir=follow': 'EPERM',
  'redirect_dir=nofollow': 'ok',
  'metacopy=on': 'EPERM',
  'metacopy=off': 'ok',
  'index=on,xino=auto': 'ok',
  'verity=on': 'EPERM',
  'verity=off': 'ok',
};

guestTest('root of a user namespace gets no option that needs attributes below trusted', async (t, guest) => {
  guest.needs(
    guest.expected.overlaysWithDataLayers,
    'mounts that are refused for want of rights to attributes',
  );
  await using client = await guest.client({ launcher: USER_NAMESPACE });
  const lower = await guest.directory('ext4', 'lower');
  for (const [options, expected] of Object.entries(IN_A_NAMESPACE)) {
    const how = { lower, ...(await upperOn(guest)), options };
    t.is(await guest.mountErrno(overlayRequest(how), client), expected, options);
  }
  const data = `${lower}::${await guest.directory('ext4', 'data')}`;
  const how = { lower: data, ...(await upperOn(guest)) };
  t.is(await guest.mountErrno(overlayRequest(how), client), 'EPERM', 'a layer of data alone');
});

guestTest(
  'what needs extended attributes is off where the upper layer cannot have them, and the rest works',
  async (t, guest) => {
    await using root = await guest.client();
    await using inside = await guest.client({ launcher: USER_NAMESPACE });
    await using ramfs = await guest.mount({ source: 'ramfs', type: 'ramfs' }, root);
    const lower = await guest.directory('ext4', 'lower');
    await fill(root, lower, ['changed', 'removed', 'd/', 'd/below']);
    await fill(root, ramfs.path, ['upper/', 'work/']);
    const later = guest.expected.overlaysWithDataLayers;
    // Earlier kernels leave redirects alone.
    const off = later ? ['redirect_dir=nofollow', 'uuid=null'] : [];
    const rows = [
      ['on ramfs', root, { upper: ramfs.file('upper'), work: ramfs.file('work') }, 'index=on,metacopy=on'],
      ['of a user namespace', inside, await upperOn(guest), 'index=on'],
    ] as const;
    for (const [what, client, layers, options] of rows) {
      await using overlay = await guest.mountOverlay(
        { lower, ...layers, options: `${options},xino=auto` },
        client,
      );
      const shown = await shownAt(client, overlay.path);
      // Before 6.5 redirects stay on where metacopy has brought them, and are not shown.
      t.deepEqual(shown, off, what);
      await client.chmod({ path: overlay.file('changed'), mode: 0o600 });
      await client.unlink({ path: overlay.file('removed') });
      t.deepEqual(await client.readdir({ path: overlay.path }), ['changed', 'd'], `${what}: names`);
      t.is((await client.stat({ path: overlay.file('changed') })).mode & 0o777, 0o600, `${what}: copied up`);
      t.is(
        await client.errno.rename({ from: overlay.file('d'), to: overlay.file('e') }),
        'EXDEV',
        `${what}: a lower directory`,
      );
    }
  },
);

guestTest(
  'an overlay that is to have no number of its own has none either where it could not be kept',
  async (t, guest) => {
    await using client = await guest.client();
    await using ramfs = await guest.mount({ source: 'ramfs', type: 'ramfs' }, client);
    await fill(client, ramfs.path, ['lower/', 'upper/', 'work/']);
    const [lower, upper, work] = ['lower', 'upper', 'work'].map((name) => ramfs.file(name));
    const how = { lower: lower ?? '', upper, work, options: 'uuid=off' };
    t.true((await outcomeOf(guest, client, how)).includes('uuid=off'));
  },
);

guestTest('an overlay that is given a number when it is first mounted says so', async (t, guest) => {
  guest.needs(guest.expected.overlaysWithDataLayers, 'numbers of overlays');
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'lower');
  const layers = await upperOn(guest);
  const shown = async (options?: string) => {
    await using overlay = await guest.mountOverlay({ lower, ...layers, options }, client);
    return (await overlayOptionsAt(client, overlay.path)).filter((option) => option.startsWith('uuid='));
  };
  t.deepEqual(await shown(), ['uuid=on'], 'a new one, by default');
  t.deepEqual(await shown(), [], 'one that has it already, by default');
  t.deepEqual(await shown('uuid=on'), ['uuid=on'], 'one that has it already and is told to');
});

guestTest('who may not open files by handles has no index and no numbers that last', async (t, guest) => {
  await using client = await guest.client({ launcher: WITHOUT_HANDLES });
  await using root = await guest.client();
  const lower = await guest.directory('ext4', 'lower');
  const options = 'index=on,nfs_export=on,xino=auto';
  for (const [what, by, expected] of [
    ['with the capability', root, ['index=on', 'nfs_export=on', 'xino=auto']],
    ['without', client, []],
  ] as const) {
    const how = { lower, ...(await upperOn(guest, 'tmpfs')), options };
    t.deepEqual(await outcomeOf(guest, by, how), expected, what);
  }
  const outright = { lower, ...(await upperOn(guest, 'tmpfs')), options: 'xino=on' };
  t.deepEqual(await outcomeOf(guest, client, outright), ['xino=on'], 'without, but asked for outright');
  // Which are none of the lower layer that is the only one.
  const readOnly = { lower: [lower, await guest.directory('tmpfs', 'lower')], options: 'xino=auto' };
  t.true((await outcomeOf(guest, client, readOnly)).includes('xino=auto'), 'without an upper layer');
});

guestTest(
  'two lower layers that cannot be told apart have no index, handles and lasting numbers',
  async (t, guest) => {
    await using client = await guest.client();
    const plain = { passthrough: 'off', init: WITHOUT_PASSTHROUGH } as const;
    await using one = await guest.mountFuse(plain);
    await using other = await guest.mountFuse(plain);
    const ext4 = await guest.directory('ext4', 'lower');
    const [first, second] = [one.path, other.path];
    const kept = ['index=on', 'nfs_export=on', 'xino=auto'];
    for (const [what, lower, expected] of [
      ['one without a number', [first], kept],
      ['one without a number beside one with', [first, ext4], kept],
      ['the same with the other order', [ext4, first], kept],
      ['two without a number', [first, second], []],
      ['two without a number and one between', [first, ext4, second], []],
    ] as const) {
      const options = 'index=on,nfs_export=on,xino=auto';
      const layers = { lower: [...lower], ...(await upperOn(guest)), options };
      await using overlay = await guest.mountOverlay(layers, client);
      const shown = await overlayOptionsAt(client, overlay.path);
      t.deepEqual(
        shown.filter((option) => /^(index|nfs_export|xino)=/.test(option)),
        expected,
        what,
      );
    }
    for (const [what, lower, expected] of [
      ['one without a number', [first, ext4], true],
      ['two without a number', [first, second], false],
    ] as const) {
      const options = 'nfs_export=on,redirect_dir=nofollow';
      await using overlay = await guest.mountOverlay({ lower: [...lower], options }, client);
      const shown = await overlayOptionsAt(client, overlay.path);
      t.is(shown.includes('nfs_export=on'), expected, `${what}, and no upper layer`);
    }
  },
);
