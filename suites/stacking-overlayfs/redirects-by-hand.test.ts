import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf, over } from '../lib/layers.ts';
import { upperOnFuse } from '../lib/overlay-on-fuse.ts';

/** Redirects that a layer has without an overlay having made them, and attributes of an upper layer that cannot be read. */

const REDIRECT = 'trusted.overlay.redirect';

/** What a directory of the upper layer says; what it lists, or the errno of its name. */
const REDIRECTS: readonly (readonly [redirect: string, gives: readonly string[] | string])[] = [
  ['/n/x', ['low', 'up']],
  ['/none/x', ['up']],
  ['/n/none', ['up']],
  ['/file/x', ['up']],
  ['/link/x', ['up']],
  ['/whiteout/x', ['up']],
  ['/opaque/x', ['up']],
  ['/n/file', ['up']],
  ['named', ['low', 'up']],
  ['/bad/x', 'EINVAL'],
  ['', 'EINVAL'],
  ['n/x', 'EINVAL'],
  ['/', 'EINVAL'],
  ['//n', 'EINVAL'],
  ['/n/', 'EINVAL'],
  ['/n//x', 'EINVAL'],
];

guestTest(
  'a redirect leads through directories alone, of whichever layers have them (E16)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 3);
    const [bottom = '', middle = '', upper = ''] = layers;
    for (const name of ['n', 'file', 'link', 'whiteout', 'opaque', 'bad', 'named']) {
      const inner = name === 'named' ? name : `${name}/x`;
      await fill(client, bottom, [`${name}/`, ...(inner === name ? [] : [`${inner}/`]), `${inner}/low`]);
    }
    await fill(client, bottom, ['n/file']);
    await fill(client, middle, ['file', 'opaque/', 'bad/']);
    await client.symlink({ path: `${middle}/link`, target: 'n' });
    await client.mknod({ path: `${middle}/whiteout`, mode: 0o020_000 });
    await client.setxattr({ path: `${middle}/opaque`, name: 'trusted.overlay.opaque', data: 'y' });
    await client.setxattr({ path: `${middle}/bad`, name: REDIRECT, data: 'not/valid' });
    for (const [at, [redirect]] of REDIRECTS.entries()) {
      await fill(client, upper, [`d${at}/`, `d${at}/up`]);
      await client.setxattr({ path: `${upper}/d${at}`, name: REDIRECT, data: redirect });
    }
    await using overlay = await over(guest, client, layers, 'redirect_dir=on');
    for (const [at, [redirect, gives]] of REDIRECTS.entries()) {
      const path = overlay.file(`d${at}`);
      t.is(await client.errno.lstat({ path }), typeof gives === 'string' ? gives : 'ok', redirect);
      if (typeof gives !== 'string') t.deepEqual(await client.readdir({ path }), gives, redirect);
    }
  },
);

/** An attribute that the upper server does not tell; what stat gives, and whether the number is that of the lower file. */
const UNTOLD: readonly (readonly [
  kind: 'file' | 'directory',
  attribute: string,
  nth: number,
  errno: string,
  gives: string,
  known: boolean,
])[] = [
  ['file', 'metacopy', 1, 'EDQUOT', 'EDQUOT', true],
  ['file', 'metacopy', 1, 'EOPNOTSUPP', 'ok', true],
  ['file', 'origin', 1, 'EDQUOT', 'ok', false],
  ['file', 'origin', 1, 'EOPNOTSUPP', 'ok', false],
  ['file', 'origin', 2, 'EDQUOT', 'ok', false],
  ['directory', 'redirect', 1, 'EDQUOT', 'EDQUOT', true],
  ['directory', 'redirect', 1, 'EOPNOTSUPP', 'ok', true],
  ['directory', 'opaque', 1, 'EDQUOT', 'ok', true],
];

const KINDS = ['file', 'directory'] as const;

guestTest(
  'attributes that the upper server does not tell make a name an error, except for where it is from',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client);
    const { fuse, lower } = stack;
    const name = (at: number | string, kind: string): string => `${kind}-${at}`;
    const made = [
      ...UNTOLD.map(([kind], at) => [kind, name(at, kind)] as const),
      ...KINDS.map((kind) => [kind, name('asked', kind)] as const),
    ];
    for (const [kind, each] of made) {
      await fill(client, lower, kind === 'file' ? [each] : [`${each}/`, `${each}/low`]);
      await client.chmod({ path: stack.overlay.file(each), mode: 0o711 });
    }
    await stack.overlay.unmount();
    const layers = { lower, upper: fuse.file('upper'), work: fuse.file('work') };
    await using overlay = await guest.mountOverlay(
      { ...layers, options: 'redirect_dir=on,xino=off' },
      client,
    );
    /** Attributes of the upper one that a lookup asks for, in the order of that. */
    const asked = new Map<string, unknown[]>();
    for (const kind of KINDS) {
      const after = await fuse.position();
      await client.stat({ path: overlay.file(name('asked', kind)) });
      const requests = await fuse.requests({ opcode: 'GETXATTR', path: `/upper/${kind}-asked`, after });
      asked.set(
        kind,
        requests.map(({ args }) => args['name']),
      );
    }
    for (const [at, [kind, attribute, which, errno, gives, known]] of UNTOLD.entries()) {
      const title = `${attribute} of a ${kind}, the question ${which}: ${errno}`;
      const before = asked.get(kind)?.indexOf(`trusted.overlay.${attribute}`) ?? -1;
      t.true(before >= 0, `${title}: asked for`);
      const each = name(at, kind);
      const permit = await fuse.rule({
        match: { opcode: 'GETXATTR', path: `/upper/${each}` },
        nth: before + which,
        times: 1,
        action: { do: 'error', errno },
      });
      t.is(await client.errno.stat({ path: overlay.file(each) }), gives, title);
      await permit();
      const { ino } = await client.stat({ path: overlay.file(each) });
      if (kind === 'directory') {
        t.deepEqual(await client.readdir({ path: overlay.file(each) }), ['low'], title);
        continue;
      }
      const below = known ? `${lower}/${each}` : fuse.file(`upper/${each}`);
      t.is(ino, (await client.stat({ path: below })).ino, `${title}: the number`);
    }
  },
);

guestTest(
  'a path from the root that a lower layer says is followed in the layers below that one, whichever have its directory (E16)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 4);
    const [bottom = '', middle = '', top = ''] = layers;
    // The uppermost of the lower layers has not the directory that the others have.
    for (const at of [bottom, middle]) await fill(client, at, ['p/']);
    await fill(client, middle, ['p/d/', 'p/d/of-middle']);
    await client.setxattr({ path: `${middle}/p/d`, name: REDIRECT, data: '/q' });
    for (const [at, name] of [
      [bottom, 'below'],
      [middle, 'beside'],
      [top, 'above'],
    ] as const) {
      await fill(client, at, ['q/', `q/${name}`]);
      await client.writeFile({ path: `${at}/n`, data: name.padEnd(6) });
    }
    await client.writeFile({ path: `${middle}/p/m`, data: '' });
    await client.truncate({ path: `${middle}/p/m`, length: 6 });
    await client.setxattr({ path: `${middle}/p/m`, name: 'trusted.overlay.metacopy', data: '' });
    await client.setxattr({ path: `${middle}/p/m`, name: REDIRECT, data: '/n' });
    await using overlay = await over(guest, client, layers, 'redirect_dir=on,metacopy=on');
    const names = await client.readdir({ path: overlay.file('p/d') });
    t.deepEqual(names, ['below', 'of-middle'], 'a directory is merged with the one below its layer alone');
    const data = await client.readFile({ path: overlay.file('p/m') });
    t.is(text(data), 'below ', 'metadata have the data below their layer');
  },
);
