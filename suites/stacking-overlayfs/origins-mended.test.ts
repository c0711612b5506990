import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf, over } from '../lib/layers.ts';
import { answerNamed, upperOnFuse } from '../lib/overlay-on-fuse.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';
import { upperOn } from '../lib/stack.ts';

/** Marks of where something was copied from that are missing, or that name another file than its name does. */

const ORIGIN = 'trusted.overlay.origin';
const IMPURE = 'trusted.overlay.impure';
const EXPORTED = { init: { ...WITHOUT_PASSTHROUGH, addFlags: ['EXPORT_SUPPORT'] } } as const;

/** What the upper server says when a directory that was made by hand is to be marked, and what its lookup gives then. */
const REFUSALS: readonly (readonly [name: string, answer: string, outcome: string])[] = [
  [ORIGIN, 'EDQUOT', 'EDQUOT'],
  [ORIGIN, 'EACCES', 'EACCES'],
  [ORIGIN, 'EPERM', 'ok'],
  [IMPURE, 'EDQUOT', 'EDQUOT'],
  [IMPURE, 'EPERM', 'EPERM'],
  [ORIGIN, 'EOPNOTSUPP', 'ok'],
];

guestTest(
  'a directory that is merged for the first time is marked, and an error where that is refused but for want of rights (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    for (const [name, answer, outcome] of REFUSALS) {
      await using stack = await upperOnFuse(guest, client, undefined, EXPORTED);
      const { overlay, fuse, lower } = stack;
      const what = `${answer} to ${name}`;
      await fill(client, lower, ['d/', 'd/below']);
      await fill(client, fuse.backing('upper'), ['d/', 'd/above']);
      const mark = (at: string, which: string): Promise<string> =>
        client.errno.getxattr({ path: fuse.backing(at), name: which });
      t.is(await mark('upper/d', ORIGIN), 'ENODATA', `${what}: before`);
      const refuse = { do: 'error', errno: answer } as const;
      const look = () => client.errno.stat({ path: overlay.file('d') });
      t.is(await answerNamed(fuse, { opcode: 'SETXATTR', name }, refuse, look), outcome, what);
      t.is(await mark('upper/d', ORIGIN), name === ORIGIN ? 'ENODATA' : 'ok', `${what}: the mark`);
      t.is(await look(), 'ok', `${what}: and then not`);
      t.deepEqual(await client.readdir({ path: overlay.file('d') }), ['above', 'below'], `${what}: merged`);
      if (name !== ORIGIN || outcome === 'ok') continue;
      t.is(await mark('upper/d', ORIGIN), 'ok', `${what}: marked later`);
      t.is(await mark('upper', IMPURE), 'ok', `${what}: and the directory that it is in`);
    }
  },
);

guestTest(
  'a directory that is merged for the first time is marked with the lower one, and the one that it is in as having such (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['p/', 'p/d/', 'p/d/below']);
    await fill(client, upper, ['p/', 'p/d/', 'p/d/above']);
    await using overlay = await over(guest, client, layers, 'index=on,nfs_export=on,redirect_dir=on');
    // With nfs_export a directory is merged with none but that of its mark.
    t.deepEqual(await client.readdir({ path: overlay.file('p/d') }), ['above', 'below']);
    const marked = (at: string, name: string) => client.errno.getxattr({ path: `${upper}${at}`, name });
    for (const at of ['/p', '/p/d']) t.is(await marked(at, ORIGIN), 'ok', `${at}: where it is from`);
    t.is(await marked('', IMPURE), 'ok', 'the top has such a directory');
    t.is(await marked('/p', IMPURE), 'ok', '/p has such a directory');
    t.is(await marked('/p/d', IMPURE), 'ENODATA', '/p/d has none');
  },
);

/** What is done to the lower file of which the metadata were copied, and what its name gives with and without an index. */
const CHANGES = {
  nothing: { on: 'ok', off: 'ok', data: 'contents 1' },
  'moved, with another in its place': { on: 'ESTALE', off: 'ok', data: 'contents 2' },
  'removed, with another in its place': { on: 'ok', off: 'ok', data: 'contents 2' },
} as const;

guestTest(
  'with an index metadata of one file are not taken for those of another that has its name below (E4, E17)',
  async (t, guest) => {
    await using client = await guest.client();
    for (const [what, { data, ...outcomes }] of Object.entries(CHANGES)) {
      const lower = await guest.directory('ext4', 'lower');
      const layers = await upperOn(guest);
      const path = `${lower}/f`;
      const mount = (index: string) =>
        guest.mountOverlay(
          { lower, ...layers, options: `metacopy=on,redirect_dir=on,index=${index}` },
          client,
        );
      await client.writeFile({ path, data: 'contents 1' });
      {
        await using overlay = await mount('on');
        await client.chmod({ path: overlay.file('f'), mode: 0o604 });
      }
      if (what !== 'nothing') {
        // The new one is made first: it must not be given the number of the old one.
        await client.writeFile({ path: `${path}-new`, data: 'contents 2' });
        if (what.startsWith('moved')) await client.rename({ from: path, to: `${path}-old` });
        await client.rename({ from: `${path}-new`, to: path });
      }
      for (const index of ['on', 'off'] as const) {
        await using overlay = await mount(index);
        const errno = await client.errno.stat({ path: overlay.file('f') });
        t.is(errno, outcomes[index], `${what}, index=${index}`);
        if (errno !== 'ok') continue;
        const read = text(await client.readFile({ path: overlay.file('f') }));
        t.is(read, data, `${what}, index=${index}: data`);
      }
    }
  },
);
