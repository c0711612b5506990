import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill } from '../lib/layers.ts';
import { mountedAt } from '../lib/mounted-at.ts';

/** An overlay whose upper layer has no extended attributes: what it does without them, and what it refuses. */

/** Overlay on a lower layer of ext4 and an upper one of ramfs. */
async function onRamfs(guest: TestGuest, client: Client, options?: string) {
  await using undo = new AsyncDisposableStack();
  const lower = await guest.directory('ext4', 'lower');
  await fill(client, lower, ['f', 'empty/', 'd/', 'd/below']);
  const ramfs = undo.use(await guest.mount({ source: 'none', type: 'ramfs' }, client));
  await fill(client, ramfs.path, ['upper/', 'work/']);
  const [upper, work] = ['upper', 'work'].map((name) => ramfs.file(name));
  const overlay = undo.use(await guest.mountOverlay({ lower, upper, work, options }, client));
  const all = undo.move();
  return { overlay, upper: upper ?? '', [Symbol.asyncDispose]: () => all.disposeAsync() };
}

guestTest(
  'without attributes files are copied up, made and removed, and nothing is done that needs a mark',
  async (t, guest) => {
    await using client = await guest.client();
    const options = 'index=on,metacopy=on,redirect_dir=on';
    await using stack = await onRamfs(guest, client, options);
    const { overlay, upper } = stack;
    const shown = (await mountedAt(client, overlay.path)).options.split(',');
    t.deepEqual(
      shown.filter((each) => /^(index|metacopy)=on$/.test(each)),
      [],
      'options that need some',
    );
    t.is(await client.errno.chmod({ path: overlay.file('f'), mode: 0o600 }), 'ok', 'a file is copied up');
    t.is(
      await client.errno.chmod({ path: overlay.file('d'), mode: 0o700 }),
      'ok',
      'a directory is copied up',
    );
    t.is(await client.errno.mkdir({ path: overlay.file('new') }), 'ok', 'a directory is made');
    t.is(await client.errno.rmdir({ path: overlay.file('empty') }), 'ok', 'a directory is removed');
    // Without a mark it would show what is below.
    t.is(await client.errno.mkdir({ path: overlay.file('empty') }), 'EIO', 'and one made where it was');
    const rename = { from: overlay.file('d'), to: overlay.file('e') };
    t.is(await client.errno.rename(rename), 'EXDEV', 'a merged directory is moved');
    t.deepEqual(await client.readdir({ path: overlay.path }), ['d', 'f', 'new']);
    t.deepEqual(await client.readdir({ path: overlay.file('d') }), ['below']);
    t.deepEqual(await client.readdir({ path: upper }), ['d', 'empty', 'f', 'new']);
  },
);
