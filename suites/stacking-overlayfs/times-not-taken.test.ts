import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill } from '../lib/layers.ts';
import { layersOnFuse, upperOnFuse } from '../lib/overlay-on-fuse.ts';

/** Times that a copy-up sets in the upper layer: what its server does not take of them, and which of a directory it restores. */

const [LONG_AGO_NS, LATER_NS] = [1_500_000_000_000_000_000, 1_600_000_000_000_000_000];
/** include/uapi/linux/fuse.h. */
const FATTR_MTIME = 1 << 5;
const REFUSE = { do: 'error', errno: 'EDQUOT' } as const;

/** Of a copy-up into the upper directory: the SETATTR that is refused, of the copy or of the directory. */
const REFUSED = {
  'the times of a file': { kind: 'file', match: { opcode: 'SETATTR' }, nth: 4 },
  'the times of a new directory': { kind: 'directory', match: { opcode: 'SETATTR' }, nth: 3 },
  'the times of the directory it goes to, of a file': {
    kind: 'file',
    match: { opcode: 'SETATTR', path: '/upper' },
    nth: 1,
  },
  'the times of the directory it goes to, of a directory': {
    kind: 'directory',
    match: { opcode: 'SETATTR', path: '/upper' },
    nth: 1,
  },
} as const;

guestTest(
  'a copy-up is done also where the upper server does not set the times of the copy or of its directory (E4)',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client);
    const { overlay, fuse, lower } = stack;
    for (const [at, [what, { kind, match, nth }]] of Object.entries(REFUSED).entries()) {
      const name = `${kind}-${at}`;
      await fill(client, lower, [kind === 'file' ? name : `${name}/`]);
      await client.lstat({ path: overlay.file(name) });
      const after = await fuse.position();
      const permit = await fuse.rule({ match, nth, times: 1, action: REFUSE });
      t.is(await client.errno.chmod({ path: overlay.file(name), mode: 0o750 }), 'ok', what);
      await permit();
      const refused = (await fuse.requests({ ...match, after }))[nth - 1];
      t.not(Number(refused?.args['valid']) & FATTR_MTIME, 0, `${what}: these were refused`);
      const { mode } = await client.stat({ path: fuse.backing(`upper/${name}`) });
      t.is(mode & 0o777, 0o750, `${what}: the mode of the copy`);
      if (kind !== 'file') continue;
      const copy = await client.readFile({ path: fuse.backing(`upper/${name}`) });
      t.is(text(copy), `${name} at the bottom`, `${what}: the data`);
    }
  },
);

guestTest(
  'a name of a file of several is copied up and counted also where the times of its directory are not set (E4, E17)',
  async (t, guest) => {
    await using client = await guest.client();
    await using layers = await layersOnFuse(guest, client);
    const { fuse } = layers;
    await fill(client, fuse.backing('lower'), ['a']);
    await client.link({ from: fuse.backing('lower/a'), to: fuse.backing('lower/b') });
    await using overlay = await layers.mount('index=on');
    const counts: string[] = [];
    for (const name of ['a', 'b']) {
      await client.lstat({ path: overlay.file(name) });
      const match = { opcode: 'SETATTR', path: '/upper' } as const;
      const after = await fuse.position();
      const permit = await fuse.rule({ match, times: 1, action: REFUSE });
      t.is(await client.errno.chmod({ path: overlay.file(name), mode: 0o640 }), 'ok', name);
      await permit();
      const [refused] = await fuse.requests({ ...match, after });
      t.not(Number(refused?.args['valid']) & FATTR_MTIME, 0, `${name}: the times were refused`);
      const copy = fuse.backing(`upper/${name}`);
      t.is((await client.stat({ path: copy })).mode & 0o777, 0o640, `${name}: the copy`);
      counts.push(text(await client.getxattr({ path: copy, name: 'trusted.overlay.nlink' })));
      t.is((await client.stat({ path: overlay.file(name) })).nlink, 2, `${name}: links`);
    }
    t.deepEqual(counts, ['U+0', 'U-1'], 'what is counted besides the links of the upper file');
  },
);

guestTest(
  'a copy-up restores the access time that a directory has got since it was last asked for (E4)',
  async (t, guest) => {
    await using client = await guest.client();
    const lasting = { entryValidS: 3600, attrValidS: 3600 };
    await using stack = await upperOnFuse(guest, client, undefined, lasting);
    const { overlay, fuse, lower } = stack;
    await fill(client, lower, ['d/', 'd/f', 'd/g']);
    await client.utimens({ path: overlay.file('d'), atimeNs: LONG_AGO_NS, mtimeNs: LONG_AGO_NS });
    // The directory gets its mark.
    await client.chmod({ path: overlay.file('d/g'), mode: 0o600 });
    // All of it is known, and then all but the access time.
    await client.stat({ path: overlay.file('d') });
    const after = await fuse.position();
    t.deepEqual(await client.readdir({ path: overlay.file('d') }), ['f', 'g']);
    t.not((await fuse.requests({ opcode: ['READDIR', 'READDIRPLUS'], after })).length, 0, 'it was read');
    const path = fuse.backing('upper/d');
    await client.utimens({ path, atimeNs: LATER_NS, mtimeNs: LONG_AGO_NS });
    await client.chmod({ path: overlay.file('d/f'), mode: 0o600 });
    t.is(await client.errno.lstat({ path: `${path}/f` }), 'ok', 'copied up');
    const { atimeNs, mtimeNs } = await client.stat({ path });
    t.is(atimeNs, LATER_NS, 'the access time that the server has of it');
    t.is(mtimeNs, LONG_AGO_NS, 'the time of its last change');
  },
);
