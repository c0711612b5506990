import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill } from '../lib/layers.ts';
import { answerNamed, layersOnFuse, upperOnFuse } from '../lib/overlay-on-fuse.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';
import { upperOn } from '../lib/stack.ts';

/** Extended attributes that the server of a layer does not give or take when an overlay wants them. */

const IMPURE = 'trusted.overlay.impure';
const UUID = 'trusted.overlay.uuid';

/** What a server says to a question for attributes: what a file is that has data, and a directory. */
const REFUSED: Readonly<Record<string, Readonly<Record<'trusted' | 'user', string>>>> = {
  EIO: { trusted: 'EIO', user: 'EIO' },
  EPERM: { trusted: 'EPERM', user: 'EPERM' },
  // What who has mounted it may not read in attributes of users is not there.
  EACCES: { trusted: 'EACCES', user: 'ok' },
  ENODATA: { trusted: 'ok', user: 'ok' },
  EOPNOTSUPP: { trusted: 'ok', user: 'ok' },
};

guestTest(
  'a file whose marks cannot be read is an error, and none where attributes of users may not be',
  async (t, guest) => {
    await using client = await guest.client();
    const root = await guest.directory('ext4', 'root');
    await fill(client, root, ['f']);
    await using fuse = await guest.mountFuse({ root, passthrough: 'off', init: WITHOUT_PASSTHROUGH });
    for (const [refusal, errnos] of Object.entries(REFUSED)) {
      for (const [kind, options] of [
        ['trusted', undefined],
        ['user', 'userxattr'],
      ] as const) {
        await using overlay = await guest.mountOverlay(
          { lower: fuse.path, ...(await upperOn(guest)), options },
          client,
        );
        const permit = await fuse.fail({ opcode: 'GETXATTR', path: '/f' }, refusal);
        t.is(await client.errno.stat({ path: overlay.file('f') }), errnos[kind], `${refusal}, ${kind}`);
        await permit();
        t.is(text(await client.readFile({ path: overlay.file('f') })), 'f at the bottom', 'later');
      }
    }
  },
);

/** The two questions for a redirect: how long it is, and what it is. */
const ANSWERS = {
  'no answer to how long it is': [1, { do: 'error', errno: 'EIO' }, 'EIO'],
  'it cannot be, here': [1, { do: 'error', errno: 'EOPNOTSUPP' }, 'ok'],
  'no answer to what it is': [2, { do: 'error', errno: 'EIO' }, 'EIO'],
  'it is empty after all': [2, { do: 'body', body: new Uint8Array() }, 'EINVAL'],
} as const;

guestTest('a directory whose redirect cannot be read is an error (E16)', async (t, guest) => {
  await using client = await guest.client();
  const name = 'trusted.overlay.redirect';
  for (const [what, [nth, answer, errno]] of Object.entries(ANSWERS)) {
    await using stack = await upperOnFuse(guest, client, 'redirect_dir=on');
    const { overlay, fuse, lower } = stack;
    await fill(client, lower, ['before/', 'before/below']);
    await client.mkdir({ path: fuse.backing('upper/d') });
    await client.setxattr({ path: fuse.backing('upper/d'), name, data: 'before' });
    const path = overlay.file('d');
    const look = () => client.errno.stat({ path });
    t.is(await answerNamed(fuse, { opcode: 'GETXATTR', name, nth }, answer, look), errno, what);
    if (errno === 'ok') t.deepEqual(await client.readdir({ path }), [], 'it leads nowhere');
    else t.deepEqual(await client.readdir({ path }), ['below'], `${what}: asked again`);
  }
});

/** A directory of the upper layer that a file of the lower one may be moved to, which marks it. */
async function movedTo(guest: TestGuest, client: Client) {
  const layers = await layersOnFuse(guest, client);
  await fill(client, layers.fuse.root, ['upper/d/', 'lower/one', 'lower/two']);
  const overlay = await layers.mount();
  const move = (name: string) =>
    client.errno.rename({ from: overlay.file(name), to: overlay.file(`d/${name}`) });
  return { layers, overlay, fuse: layers.fuse, move };
}

guestTest('nothing is moved to a directory that cannot be marked', async (t, guest) => {
  await using client = await guest.client();
  const { layers, overlay, fuse, move } = await movedTo(guest, client);
  await using _layers = layers;
  await using _overlay = overlay;
  const refuse = { do: 'error', errno: 'ENOSPC' } as const;
  const marks = { opcode: 'SETXATTR', name: IMPURE, nth: 2 } as const;
  // The first one is the root's, which the copy-up marks.
  t.is(await answerNamed(fuse, marks, refuse, () => move('one')), 'ENOSPC');
  t.deepEqual(await client.readdir({ path: overlay.path }), ['d', 'one', 'two'], 'it is where it was');
  t.is(await move('one'), 'ok', 'later');
  t.is(text(await client.getxattr({ path: fuse.backing('upper/d'), name: IMPURE })), 'y', 'marked');
});

guestTest(
  'when the server of the upper layer knows no attributes any more, an overlay does without and asks no more',
  async (t, guest) => {
    await using client = await guest.client();
    const { layers, overlay, fuse, move } = await movedTo(guest, client);
    await using _layers = layers;
    await using _overlay = overlay;
    await client.mkdir({ path: fuse.backing('lower/gone') });
    await fuse.fail('SETXATTR', 'EOPNOTSUPP');
    const after = await fuse.position();
    t.is(await move('one'), 'ok');
    t.is(await move('two'), 'ok');
    const asked = await fuse.requests({ opcode: 'SETXATTR', after });
    t.is(asked.length, 1, asked.map(({ args }) => String(args['name'])).join(', '));
    t.deepEqual(await client.readdir({ path: overlay.file('d') }), ['one', 'two']);
    await client.rmdir({ path: overlay.file('gone') });
    const path = overlay.file('gone');
    // Without a mark it would show what is below.
    t.is(await client.errno.mkdir({ path }), 'EIO', 'a directory where one was removed');
    t.is(await client.errno.stat({ path }), 'ENOENT');
  },
);

/** Attribute of the root of the upper layer, and the request about it that fails. */
const NUMBERS = {
  'the number cannot be read': ['GETXATTR', UUID, 'auto'],
  'whether the layer was in use before cannot be read': ['GETXATTR', IMPURE, 'auto'],
  'the number cannot be kept': ['SETXATTR', UUID, 'on'],
} as const;

guestTest('an overlay whose number cannot be read or kept has none', async (t, guest) => {
  guest.needs(guest.expected.overlaysWithDataLayers, 'numbers of overlays');
  await using client = await guest.client();
  for (const [what, [opcode, name, uuid]] of Object.entries(NUMBERS)) {
    await using layers = await layersOnFuse(guest, client);
    const { fuse } = layers;
    const fsid = async (overlay: { path: string }) => (await client.statfs({ path: overlay.path })).fsid;
    const below = await fsid({ path: fuse.path });
    const mount = () => layers.mount(`uuid=${uuid}`);
    {
      const failing = { do: 'error', errno: 'EIO' } as const;
      await using overlay = await answerNamed(fuse, { opcode, name }, failing, mount);
      t.is(await fsid(overlay), below, what);
      t.is(await client.errno.getxattr({ path: fuse.backing('upper'), name: UUID }), 'ENODATA', what);
    }
    await using overlay = await mount();
    t.not(await fsid(overlay), below, `${what}: later`);
  }
});
