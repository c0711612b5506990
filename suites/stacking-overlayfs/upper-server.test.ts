import { bytes, concat, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { ATTR, ENTRY, entryAnswer, u32, u64 } from '../lib/entry-answer.ts';
import type { Rule } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { mountedAt } from '../lib/mounted-at.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';
import { overlayRequest, type OverlayOptions } from '../lib/stacked-mount.ts';

/** What an overlay tries of its upper layer when it is mounted, where a FUSE server answers that. */

const NONE = new Uint8Array();

interface Upper extends AsyncDisposable {
  readonly fuse: FuseMount;
  /** Layers of an overlay whose upper one is the server's, and the work directory's path there. */
  readonly layers: () => Promise<OverlayOptions & { readonly at: string }>;
}

async function upperServer(guest: TestGuest, client: Client): Promise<Upper> {
  const dropFlags = [...(WITHOUT_PASSTHROUGH.dropFlags ?? []), 'DO_READDIRPLUS', 'READDIRPLUS_AUTO'] as const;
  const fuse = await guest.mountFuse({ passthrough: 'off', init: { dropFlags } });
  const lower = await guest.directory('ext4', 'lower');
  await client.writeFile({ path: `${lower}/f`, data: 'from below' });
  let made = 0;
  const layers = async () => {
    made += 1;
    const [upper, work] = [`upper${made}`, `work${made}`];
    for (const name of [upper, work]) await client.mkdir({ path: fuse.backing(name) });
    return { lower, upper: fuse.file(upper), work: fuse.file(work), at: `/${work}` };
  };
  return { fuse, layers, [Symbol.asyncDispose]: () => fuse[Symbol.asyncDispose]() };
}

type RuleAction = Rule['action'];

/** Where a volatile overlay leaves its mark, in the directory that it is given for its work. */
const INCOMPAT = 'work/incompat';

const refuse = (errno: string): RuleAction => ({ do: 'error', errno });
const answer = (body: Uint8Array): RuleAction => ({ do: 'body', body });

/** `fuse_dirent` of a name whose type the server does not tell. */
const UNTYPED = concat(u64(1000n), u64(1n), u32(1), u32(0), bytes('x'), new Uint8Array(7));

interface Row {
  /** By the path of the work directory. */
  readonly rules: (at: string) => readonly Rule[];
  readonly options?: string;
  /** `ok`, `read-only`, or the errno of the mount. */
  readonly outcome: string;
  /** What is there before. */
  readonly there?: string;
}

const one = (match: Rule['match'], action: RuleAction, more: Partial<Rule> = {}): readonly Rule[] => [
  { match, action, ...more },
];

const ROWS: Readonly<Record<string, Row>> = {
  'nothing is refused': { rules: () => [], outcome: 'ok' },
  'the work directory cannot be looked up': {
    rules: (at) => one({ opcode: 'LOOKUP', path: `${at}/work` }, refuse('EIO')),
    outcome: 'read-only',
  },
  'it cannot be made': {
    rules: (at) => one({ opcode: 'MKDIR', path: `${at}/work` }, refuse('EDQUOT')),
    outcome: 'read-only',
  },
  'the old one is removed as the server says, and is there': {
    there: 'work',
    rules: (at) => one({ opcode: 'RMDIR', path: `${at}/work` }, answer(NONE)),
    outcome: 'read-only',
  },
  'its default access control list cannot be removed': {
    rules: (at) => one({ opcode: 'REMOVEXATTR', path: `${at}/work` }, refuse('EPERM'), { times: 1 }),
    outcome: 'read-only',
  },
  'its access control list cannot be removed': {
    rules: (at) => one({ opcode: 'REMOVEXATTR', path: `${at}/work` }, refuse('EPERM'), { nth: 2, times: 1 }),
    outcome: 'read-only',
  },
  'it has no lists': {
    rules: (at) => one({ opcode: 'REMOVEXATTR', path: `${at}/work` }, refuse('ENODATA'), { times: 2 }),
    outcome: 'ok',
  },
  'there are no lists': {
    rules: (at) => one({ opcode: 'REMOVEXATTR', path: `${at}/work` }, refuse('EOPNOTSUPP'), { times: 2 }),
    outcome: 'ok',
  },
  'its mode cannot be changed': {
    rules: (at) => one({ opcode: 'SETATTR', path: `${at}/work` }, refuse('EPERM')),
    outcome: 'read-only',
  },
  'the filesystem cannot be asked for its size': {
    rules: () => one({ opcode: 'STATFS' }, refuse('ENOMEM')),
    outcome: 'ENOMEM',
  },
  'the work directory cannot be read': {
    rules: (at) => one({ opcode: 'READDIR', path: at }, refuse('ENXIO')),
    outcome: 'ENXIO',
  },
  'a list of it has no types': {
    rules: (at) => [
      ...one({ opcode: 'READDIR', path: at }, answer(NONE)),
      ...one({ opcode: 'READDIR', path: at }, answer(UNTYPED), { times: 1 }),
    ],
    outcome: 'EINVAL',
  },
  'there are no files without a name': {
    rules: () => one({ opcode: 'TMPFILE' }, refuse('EPERM')),
    outcome: 'ok',
  },
  'no file can be made there': {
    rules: () => one({ opcode: ['MKNOD', 'CREATE'] }, refuse('EDQUOT')),
    outcome: 'EDQUOT',
  },
  'a file cannot be renamed so that a whiteout stays': {
    rules: () => one({ opcode: 'RENAME2' }, refuse('EINVAL')),
    outcome: 'EINVAL',
  },
  'a file cannot be renamed, which is another error': {
    rules: () => one({ opcode: 'RENAME2' }, refuse('EPERM')),
    outcome: 'EPERM',
  },
  'a file is renamed as the server says, and no whiteout is there': {
    rules: () => one({ opcode: 'RENAME2' }, answer(NONE)),
    outcome: 'EINVAL',
  },
  'there are no extended attributes': {
    rules: (at) => one({ opcode: 'SETXATTR', path: `${at}/work` }, refuse('EOPNOTSUPP')),
    outcome: 'EINVAL',
  },
  'the index cannot be made': {
    rules: (at) => one({ opcode: 'MKDIR', path: `${at}/index` }, refuse('EDQUOT')),
    options: 'index=on',
    outcome: 'read-only',
  },
  'the index cannot be made, which handles need': {
    rules: (at) => one({ opcode: 'MKDIR', path: `${at}/index` }, refuse('EDQUOT')),
    options: 'nfs_export=on',
    outcome: 'read-only',
  },
  'nothing is refused, with handles': { rules: () => [], options: 'nfs_export=on', outcome: 'ok' },
  'nothing is refused, volatile': { rules: () => [], options: 'volatile', outcome: 'ok' },
  'the mark of a volatile overlay cannot be looked up': {
    rules: (at) => one({ opcode: 'LOOKUP', path: `${at}/${INCOMPAT}` }, refuse('ENXIO')),
    options: 'volatile',
    outcome: 'ENXIO',
  },
  'the mark of a volatile overlay cannot be made': {
    rules: (at) => one({ opcode: 'MKDIR', path: `${at}/${INCOMPAT}` }, refuse('EDQUOT')),
    options: 'volatile',
    outcome: 'EDQUOT',
  },
  'the mark of a volatile overlay is there already': {
    rules: (at) => one({ opcode: 'LOOKUP', path: `${at}/${INCOMPAT}/volatile/dirty` }, answer(regular())),
    options: 'volatile',
    outcome: 'ok',
  },
};

/** `fuse_entry_out` of a file that nobody has. */
function regular(): Uint8Array {
  const entry = entryAnswer({ nodeid: 77_777n, entryValidS: 0 });
  entry.set(u32(0o100_644), ENTRY.attr + ATTR.mode);
  entry.set(u32(1), ENTRY.attr + ATTR.nlink);
  return entry;
}

guestTest(
  'an overlay is refused, or read-only, when its upper layer cannot do what it takes',
  async (t, guest) => {
    await using client = await guest.client();
    await using upper = await upperServer(guest, client);
    const { fuse, layers } = upper;
    for (const [what, { rules, options, outcome, there }] of Object.entries(ROWS)) {
      const { at, ...how } = await layers();
      if (there !== undefined) await client.mkdir({ path: fuse.backing(`${at}/${there}`) });
      const takeBack: (() => Promise<void>)[] = [];
      for (const rule of rules(at)) takeBack.push(await fuse.rule(rule));
      const request = overlayRequest({ ...how, options });
      if (outcome === 'ok' || outcome === 'read-only') {
        await using overlay = await guest.mount(request, client);
        for (const back of takeBack) await back();
        const { options: shown } = await mountedAt(client, overlay.path);
        t.is(shown.split(',').includes('ro'), outcome === 'read-only', `${what}: ${shown}`);
        const made = await client.errno.mkdir({ path: overlay.file('made') });
        t.is(made, outcome === 'ok' ? 'ok' : 'EROFS', what);
        const index = shown.includes('index=on');
        t.is(index, outcome === 'ok' && options === 'nfs_export=on', `${what}: the index`);
        t.is(shown.includes('nfs_export=on'), index, `${what}: handles`);
      } else {
        t.is(await guest.mountErrno(request, client), outcome, what);
      }
      for (const back of takeBack) await back();
    }
  },
);

guestTest('the mark of a volatile overlay is a directory', async (t, guest) => {
  await using client = await guest.client();
  await using upper = await upperServer(guest, client);
  const { at, ...how } = await upper.layers();
  await upper.fuse.rule({
    match: { opcode: 'LOOKUP', path: `${at}/${INCOMPAT}` },
    action: answer(regular()),
  });
  // Earlier kernels go on, and it is the server that knows no names in a file.
  const errno = guest.expected.overlaysWithDataLayers ? 'ENOTDIR' : 'ESTALE';
  t.is(await guest.mountErrno(overlayRequest({ ...how, options: 'volatile' }), client), errno);
});

guestTest(
  'a lookup that fails while an overlay tries to leave a whiteout is the errno of its mount',
  async (t, guest) => {
    await using client = await guest.client();
    await using upper = await upperServer(guest, client);
    const { fuse, layers } = upper;
    for (const [what, opcode] of [
      ['the name to rename to', ['MKNOD', 'CREATE']],
      ['the whiteout', ['RENAME2']],
    ] as const) {
      const { at: _at, ...how } = await layers();
      const hold = await fuse.hold({ opcode });
      const mounted = guest.mountErrno(overlayRequest(how), client);
      const request = await hold.arrived();
      await hold.stop();
      const takeBack = await fuse.fail('LOOKUP', 'ENXIO');
      await hold.release(request);
      t.is(await mounted, 'ENXIO', what);
      await takeBack();
    }
  },
);

guestTest(
  'without files that have no name at first, files are copied up by a name in the work directory',
  async (t, guest) => {
    await using client = await guest.client();
    await using upper = await upperServer(guest, client);
    const { fuse, layers } = upper;
    for (const refused of [false, true]) {
      const { at, ...how } = await layers();
      const takeBack = refused ? await fuse.fail('TMPFILE', 'EPERM') : undefined;
      await using overlay = await guest.mountOverlay(how, client);
      await takeBack?.();
      const after = await fuse.position();
      await client.chmod({ path: overlay.file('f'), mode: 0o600 });
      const sent = await fuse.requests({ opcode: ['TMPFILE', 'MKNOD', 'CREATE'], after });
      t.deepEqual(
        sent.map(({ opcode, path }) => [opcode === 'TMPFILE', path?.startsWith(`${at}/work`)]),
        [[!refused, true]],
        `refused: ${refused}`,
      );
      t.is(text(await client.readFile({ path: overlay.file('f') })), 'from below');
    }
  },
);

guestTest(
  'what an overlay has below is asked for its size, when it is mounted and later',
  async (t, guest) => {
    await using client = await guest.client();
    await using upper = await upperServer(guest, client);
    const { fuse, layers } = upper;
    const { at: _at, ...how } = await layers();
    const readOnly = { lower: [fuse.path, await guest.directory('ext4', 'lower')] };
    {
      await using overlay = await guest.mountOverlay(how, client);
      t.is(await client.errno.statfs({ path: overlay.path }), 'ok');
      const takeBack = await fuse.fail('STATFS', 'ENXIO');
      t.is(await client.errno.statfs({ path: overlay.path }), 'ENXIO', 'of the upper layer');
      await takeBack();
    }
    t.is(await guest.mountErrno(overlayRequest(readOnly), client), 'ok', 'a lower layer');
    await fuse.fail('STATFS', 'ENXIO');
    t.is(
      await guest.mountErrno(overlayRequest(readOnly), client),
      'ENXIO',
      'a lower layer that cannot be asked',
    );
  },
);
