import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill } from '../lib/layers.ts';
import { overlayOptionsAt } from '../lib/mounted-at.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';
import { overlayRequest, type OverlayOptions } from '../lib/stacked-mount.ts';
import { upperOn } from '../lib/stack.ts';

/** Options of an overlay that do not go together, and what the kernel log says of them: which one is given up, or why not. */

/** Where the upper layer is: on the filesystem of the lower one, on another, or nowhere. */
type Upper = 'same' | 'other' | 'none';

interface Row {
  readonly upper: Upper;
  readonly options: string;
  readonly errno: 'ok' | 'EINVAL';
  readonly says: string;
}

const given = (upper: Upper, options: string, says: string): Row => ({ upper, options, errno: 'ok', says });
const refused = (upper: Upper, options: string, says: string): Row => ({
  upper,
  options,
  errno: 'EINVAL',
  says: `conflicting options: ${says}`,
});

const ROWS: readonly Row[] = [
  given('none', 'index=on', 'option "index=on" is useless in a non-upper mount, ignore'),
  given('none', 'volatile', 'option "volatile" is meaningless in a non-upper mount, ignoring it.'),
  given('none', 'uuid=on', 'option "uuid=on" requires an upper fs, falling back to uuid=null.'),
  given(
    'none',
    'nfs_export=on,redirect_dir=on',
    'NFS export requires "redirect_dir=nofollow" on non-upper mount, falling back to nfs_export=off.',
  ),
  given('same', 'xino=on', '"xino=on" is useless with all layers on same fs, ignore.'),
  given(
    'other',
    'uuid=off',
    'The uuid=off requires a single fs for lower and upper, falling back to uuid=null.',
  ),
  given('same', 'verity=on,nfs_export=on', 'disabling nfs_export due to verity=on'),
  refused('same', 'metacopy=off,verity=on', 'metacopy=off,verity=on'),
  refused('same', 'metacopy=on,redirect_dir=nofollow', 'metacopy=on,redirect_dir=nofollow'),
  refused('same', 'verity=require,redirect_dir=nofollow', 'verity=require,redirect_dir=nofollow'),
  refused('same', 'nfs_export=on,index=off', 'nfs_export=on,index=off'),
  refused('same', 'nfs_export=on,metacopy=on', 'nfs_export=on,metacopy=on'),
  refused('same', 'userxattr,redirect_dir=on', 'userxattr,redirect_dir=on'),
  refused('same', 'userxattr,metacopy=on', 'userxattr,metacopy=on'),
  refused('same', 'userxattr,verity=on', 'userxattr,verity=on'),
  { upper: 'none', options: 'redirect_dir=on', errno: 'ok', says: '' },
  { upper: 'same', options: 'uuid=off', errno: 'ok', says: '' },
  { upper: 'same', options: 'index=on,nfs_export=on,redirect_dir=on', errno: 'ok', says: '' },
];

async function layersFor(guest: TestGuest, upper: Upper): Promise<OverlayOptions> {
  const lower = [await guest.directory('ext4', 'lower'), await guest.directory('ext4', 'lower')];
  return upper === 'none'
    ? { lower }
    : { lower, ...(await upperOn(guest, upper === 'same' ? 'ext4' : 'tmpfs')) };
}

async function saidOf(
  guest: TestGuest,
  client: Client,
  how: OverlayOptions,
): Promise<{ readonly errno: string; readonly said: readonly string[] }> {
  const after = (await guest.kernelLog()).at(-1)?.seq;
  const errno = await guest.mountErrno(overlayRequest(how), client);
  const lines = (await guest.kernelLog(after)).map(({ text }) => text);
  const prefix = 'overlayfs: ';
  const said = lines.filter((line) => line.startsWith(prefix)).map((line) => line.slice(prefix.length));
  return { errno, said };
}

guestTest(
  'of options that do not go together the kernel log says which one is given up',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'rules for these options');
    await using client = await guest.client();
    for (const { upper, options, errno, says } of ROWS) {
      const layers = await layersFor(guest, upper);
      const outcome = await saidOf(guest, client, { ...layers, options });
      t.deepEqual(outcome, { errno, said: says === '' ? [] : [says] }, `${options}, upper layer: ${upper}`);
    }
    const { lower, work } = { ...(await layersFor(guest, 'none')), ...(await upperOn(guest)) };
    t.deepEqual(
      await saidOf(guest, client, { lower, work }),
      { errno: 'ok', said: [`option "workdir=${work}" is useless in a non-upper mount, ignore`] },
      'a work directory alone',
    );
  },
);

/** Lists of layers that are none. */
const LISTS: readonly (readonly [what: string, list: (at: string) => string, errno: string, says: string])[] =
  [
    ['none at all', () => '', 'EINVAL', "missing 'lowerdir'"],
    ['a colon before it', (at) => `:${at}`, 'EINVAL', 'cannot append lower layer'],
    ['a colon behind it', (at) => `${at}:`, 'EINVAL', 'unescaped trailing colons in lowerdir mount option.'],
    [
      'three colons',
      (at) => `${at}:::${at}`,
      'EINVAL',
      "only single ':' or double '::' sequences of unescaped colons in lowerdir mount option allowed.",
    ],
    [
      'one after those of data alone',
      (at) => `${at}::${at}:${at}`,
      'EINVAL',
      'regular lower layers cannot follow data lower layers',
    ],
    ['a name that is not there', (at) => `${at}/none`, 'ENOENT', "failed to resolve 'AT/none': -2"],
    ['twice the same', (at) => `${at}:${at}`, 'ELOOP', 'conflicting lowerdir path'],
  ];

guestTest('of a list of layers that is none the kernel log says what is wrong with it', async (t, guest) => {
  guest.needs(guest.expected.overlaysWithDataLayers, 'these rules for lists of layers');
  await using client = await guest.client();
  const at = await guest.directory('ext4', 'layer');
  for (const [what, list, errno, says] of LISTS) {
    const layers = { lower: list(at), ...(await upperOn(guest)) };
    const outcome = await saidOf(guest, client, layers);
    t.deepEqual(outcome, { errno, said: [says.replace('AT', at)] }, what);
  }
});

const PARAMETERS = '/sys/module/overlay/parameters';

/** Sets what overlays are mounted with if nothing is said, and puts it back in the end. */
async function usual(
  client: Client,
  defaults: Readonly<Record<string, 'Y' | 'N'>>,
): Promise<AsyncDisposable> {
  const back = new AsyncDisposableStack();
  const set = (name: string, data: string) =>
    client.writeFile({ path: `${PARAMETERS}/${name}`, data, flags: 'O_WRONLY' });
  for (const [name, value] of Object.entries(defaults)) {
    const before = text(await client.readFile({ path: `${PARAMETERS}/${name}` })).trim();
    back.defer(async () => {
      await set(name, before);
    });
    await set(name, value);
  }
  return back;
}

/** What is usual, the options that are given, those that are shown because they are not usual, and what is said. */
const USUAL: readonly (readonly [
  defaults: Readonly<Record<string, 'Y' | 'N'>>,
  upper: Upper,
  options: string,
  shown: readonly string[],
  says?: string,
])[] = [
  [{ metacopy: 'Y' }, 'same', '', ['redirect_dir=on']],
  [{ metacopy: 'Y' }, 'same', 'metacopy=off', ['metacopy=off']],
  [
    { metacopy: 'Y' },
    'same',
    'redirect_dir=nofollow',
    ['redirect_dir=nofollow', 'metacopy=off'],
    'disabling metacopy due to redirect_dir=nofollow',
  ],
  [
    { metacopy: 'Y' },
    'same',
    'nfs_export=on',
    ['redirect_dir=on', 'index=on', 'nfs_export=on', 'metacopy=off'],
    'disabling metacopy due to nfs_export=on',
  ],
  [{ metacopy: 'Y' }, 'same', 'userxattr', ['redirect_dir=nofollow', 'metacopy=off', 'userxattr']],
  [{ nfs_export: 'Y' }, 'same', '', ['index=on']],
  [{ nfs_export: 'Y' }, 'same', 'index=off', ['nfs_export=off'], 'disabling nfs_export due to index=off'],
  [
    { nfs_export: 'Y' },
    'same',
    'metacopy=on',
    ['redirect_dir=on', 'index=on', 'nfs_export=off', 'metacopy=on'],
    'disabling nfs_export due to metacopy=on',
  ],
  [{ nfs_export: 'Y', index: 'Y' }, 'same', '', []],
  [{ index: 'Y' }, 'same', '', []],
  [{ index: 'Y' }, 'same', 'index=off', ['index=off']],
  [{ index: 'Y' }, 'none', '', ['redirect_dir=on', 'index=off']],
  [{ redirect_dir: 'Y' }, 'same', '', []],
  [{ redirect_dir: 'Y' }, 'same', 'redirect_dir=off', ['redirect_dir=follow']],
  [{ redirect_dir: 'Y', redirect_always_follow: 'N' }, 'same', 'redirect_dir=off', ['redirect_dir=nofollow']],
  [{ redirect_always_follow: 'N' }, 'same', 'redirect_dir=off', []],
  [{ redirect_always_follow: 'N' }, 'same', 'redirect_dir=follow', ['redirect_dir=follow']],
  [{ xino_auto: 'Y' }, 'other', '', [], '"xino" feature enabled using 2 upper inode bits.'],
  [{ xino_auto: 'Y' }, 'other', 'xino=off', ['xino=off']],
];

guestTest(
  'what is usual for overlays is a matter of parameters, and gives way to what is asked for',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'rules for these options');
    await using client = await guest.client();
    for (const [defaults, upper, options, shown, says] of USUAL) {
      const layers = await layersFor(guest, upper);
      const how = { ...layers, options: options === '' ? undefined : options };
      const what = `${JSON.stringify(defaults)}, ${options || 'no option'}, upper layer: ${upper}`;
      await using _usual = await usual(client, { redirect_always_follow: 'Y', ...defaults });
      const outcome = await saidOf(guest, client, how);
      t.deepEqual(outcome, { errno: 'ok', said: says === undefined ? [] : [says] }, what);
      await using overlay = await guest.mountOverlay(how, client);
      const inEffect = await overlayOptionsAt(client, overlay.path);
      t.deepEqual(
        inEffect.filter((option) => !option.startsWith('uuid=')),
        shown,
        `${what}: shown`,
      );
    }
  },
);

const NO_HANDLES = 'does not support file handles, falling back to';

guestTest('of what a layer cannot have the kernel log says what is given up for it', async (t, guest) => {
  guest.needs(guest.expected.overlaysWithDataLayers, 'rules for these options');
  await using client = await guest.client();
  await using inside = await guest.client({ launcher: ['unshare', '--user', '--map-root-user', '--mount'] });
  const init = { ...WITHOUT_PASSTHROUGH, addFlags: ['NO_EXPORT_SUPPORT'] } as const;
  await using fuse = await guest.mountFuse({ passthrough: 'off', init });
  await using ramfs = await guest.mount({ source: 'ramfs', type: 'ramfs' }, client);
  for (const at of [fuse.root, ramfs.path]) await fill(client, at, ['lower/', 'upper/', 'work/']);
  const lower = await guest.directory('ext4', 'lower');
  const all = 'index=on,nfs_export=on,xino=auto';
  const bare = fuse.file('lower');
  const upperOf = (at: string) => ({ upper: `${at}/upper`, work: `${at}/work` });
  const withoutAttributes = [
    'failed to set xattr on upper',
    '...falling back to redirect_dir=nofollow.',
    '...falling back to index=off.',
    '...falling back to uuid=null.',
    '...falling back to xino=off.',
  ];
  const rows: readonly (readonly [what: string, by: Client, how: OverlayOptions, said: readonly string[]])[] =
    [
      [
        'a lower layer without handles',
        client,
        { lower: bare, ...(await upperOn(guest)), options: all },
        [
          `fs on '${bare}' ${NO_HANDLES} index=off,nfs_export=off.`,
          `fs on '${bare}' ${NO_HANDLES} xino=off.`,
        ],
      ],
      [
        'an upper layer without handles',
        client,
        { lower, ...upperOf(fuse.path), options: 'index=on,nfs_export=on' },
        [
          `upper fs ${NO_HANDLES} index=off.`,
          'NFS export requires "index=on", falling back to nfs_export=off.',
        ],
      ],
      [
        'an upper layer without attributes',
        client,
        { lower, ...upperOf(ramfs.path), options: 'index=on,xino=auto' },
        ['upper fs does not support RENAME_WHITEOUT.', ...withoutAttributes],
      ],
      [
        'an upper layer of a user namespace',
        inside,
        { lower, ...(await upperOn(guest)), options: 'index=on,xino=auto' },
        [...withoutAttributes, "try mounting with 'userxattr' option"],
      ],
    ];
  for (const [what, by, how, said] of rows) {
    t.deepEqual(await saidOf(guest, by, how), { errno: 'ok', said }, what);
  }
});

guestTest(
  'who may not set attributes is told of those that users may set, unless it is these',
  async (t, guest) => {
    await using client = await guest.client();
    await using fuse = await guest.mountFuse({ passthrough: 'off', init: WITHOUT_PASSTHROUGH });
    await fill(client, fuse.root, ['upper/', 'work/']);
    const [lower, upper, work] = [
      await guest.directory('ext4', 'lower'),
      fuse.file('upper'),
      fuse.file('work'),
    ];
    const hint = "try mounting with 'userxattr' option";
    await fuse.fail('SETXATTR', 'EPERM');
    for (const [options, told] of [
      ['index=off', true],
      ['userxattr', false],
    ] as const) {
      const { errno, said } = await saidOf(guest, client, { lower, upper, work, options });
      t.is(errno, 'EINVAL', options);
      t.is(said.includes(hint), told, options);
      t.true(said.includes('failed to set xattr on upper'), options);
    }
  },
);

guestTest(
  'of an index that is not of these layers the kernel log says what does not fit (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const [lower, other] = [await guest.directory('ext4', 'lower'), await guest.directory('ext4', 'other')];
    const [layers, another] = [await upperOn(guest), await guest.directory('ext4', 'another')];
    const index = `${layers.work}/index`;
    const check = async (
      what: string,
      how: Partial<OverlayOptions>,
      errno: string,
      said: readonly string[],
    ) => {
      const outcome = await saidOf(guest, client, { lower, ...layers, ...how, options: 'index=on' });
      const fits = outcome.said.filter((line) => /root origin|index dir/.test(line));
      t.deepEqual({ errno: outcome.errno, said: fits }, { errno, said }, what);
    };
    const hint = "try deleting index dir or mounting with '-o index=off' to disable inodes index.";
    await check('the first time', {}, 'ok', []);
    await check('the second time', {}, 'ok', []);
    await check('another lower layer', { lower: other }, 'ESTALE', ['failed to verify upper root origin']);
    const upper = ["failed to verify index dir 'upper' xattr", hint];
    await check('another upper layer', { upper: another }, 'ESTALE', upper);
    // Where early versions of overlays with an index kept what is the attribute `upper` now.
    const origin = 'trusted.overlay.origin';
    const own = await client.getxattr({ path: index, name: 'trusted.overlay.upper' });
    await client.setxattr({ path: index, name: origin, data: own });
    await check('its own upper layer as origin', {}, 'ok', []);
    const notOwn = await client.getxattr({ path: layers.upper, name: origin });
    await client.setxattr({ path: index, name: origin, data: notOwn });
    await check('another origin', {}, 'ok', ["failed to verify index dir 'origin' xattr"]);
    await client.removexattr({ path: index, name: origin });
    await fill(client, index, ['foreign']);
    await check('a name that is none of its own', {}, 'EINVAL', ['failed index dir cleanup (-22)', hint]);
    await client.unlink({ path: `${index}/foreign` });
    await check('as it was', {}, 'ok', []);
  },
);
