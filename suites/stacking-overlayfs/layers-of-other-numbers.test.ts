import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { idmapped } from '../lib/idmapped.ts';
import { flagsOf } from '../lib/inode-flags.ts';
import { HEEDS_MODES, HEEDS_OWNERS } from '../lib/launchers.ts';

/** Layers on an idmapped mount: files are opened there with the owner that they have on that mount. */

/** Who owns the layers where they are stored; on the mount it is root. The next number is that of somebody there, too. */
const STORED = 5000;
const LONG_AGO_NS = 1_500_000_000_000_000_000;

/** Directories, each with a private file `f`, whose stored numbers are not those of the mount at `path`. */
async function mappedLayers(guest: TestGuest, client: Client, names: readonly string[]) {
  const source = await guest.directory('ext4', 'source');
  for (const name of names) {
    await client.mkdir({ path: `${source}/${name}` });
    await client.writeFile({ path: `${source}/${name}/f`, data: 'contents' });
    await client.chmod({ path: `${source}/${name}/f`, mode: 0o600 });
  }
  await guest.run(['chown', '-R', `${STORED}:${STORED}`, source]);
  const mapped = await idmapped(guest, client, source, { inside: STORED, outside: 0, count: 2 });
  return { source, path: mapped.path, [Symbol.asyncDispose]: () => mapped[Symbol.asyncDispose]() };
}

/**
 * A lower and an upper layer with such numbers, which who owns them on the mount, and may act as no other owner, makes
 * an overlay of. What is made is disposed of with the stack.
 */
async function forItsOwner(guest: TestGuest, stack: AsyncDisposableStack) {
  const client = stack.use(await guest.client());
  const mounter = stack.use(await guest.client({ launcher: HEEDS_OWNERS }));
  const mapped = stack.use(await mappedLayers(guest, client, ['lower', 'upper', 'work']));
  const at = (name: string): string => `${mapped.path}/${name}`;
  await client.unlink({ path: at('work/f') });
  const layers = { lower: at('lower'), upper: at('upper'), work: at('work') };
  return { client, at, mount: async () => stack.use(await guest.mountOverlay(layers, mounter)) };
}

guestTest(
  'who has mounted an overlay over layers with other numbers may open there what belongs to it by the numbers of the mount (E15)',
  async (t, guest) => {
    await using client = await guest.client();
    await using mounter = await guest.client({ launcher: HEEDS_MODES });
    await using mapped = await mappedLayers(guest, client, ['one', 'two']);
    // Without an upper layer: a work directory has the mode 0.
    const lower = [`${mapped.path}/one`, `${mapped.path}/two`];
    await using overlay = await guest.mountOverlay({ lower }, mounter);
    t.is((await client.stat({ path: overlay.file('f') })).uid, 0, 'root’s on the mount');
    t.is(
      await mounter.errno.open({ path: `${mapped.source}/one/f`, flags: 'O_RDONLY' }),
      'EACCES',
      'not where it is stored',
    );
    t.is(
      await client.errno.open({ path: overlay.file('f'), flags: 'O_RDONLY' }),
      'ok',
      'opened on the overlay',
    );
    t.is(text(await client.readFile({ path: overlay.file('f') })), 'contents');
  },
);

guestTest(
  'O_NOATIME on an overlay over a layer with other numbers is for who owns the file by the numbers of the mount (E15)',
  async (t, guest) => {
    await using stack = new AsyncDisposableStack();
    const { client, at, mount } = await forItsOwner(guest, stack);
    const overlay = await mount();
    const path = at('upper/f');
    const read = async (flags: string) => {
      const fd = await client.open({ path: overlay.file('f'), flags });
      await client.utimens({ path, atimeNs: LONG_AGO_NS, mtimeNs: null });
      await client.pread({ fd, count: 8, offset: 0 });
      await client.close({ fd });
      return (await client.stat({ path })).atimeNs === LONG_AGO_NS;
    };
    t.false(await read('O_RDONLY'), 'without it reading changes the access time');
    t.true(await read('O_RDONLY|O_NOATIME'), 'with it the owner leaves the access time');
  },
);

guestTest(
  'a merged directory of layers with other numbers is listed, without access times, by who owns it by the numbers of the mount (E15)',
  async (t, guest) => {
    await using client = await guest.client();
    for (const [what, launcher] of [
      ['to whom modes count', HEEDS_MODES],
      ['who may not act as any owner', HEEDS_OWNERS],
    ] as const) {
      await using mounter = await guest.client({ launcher });
      await using mapped = await mappedLayers(guest, client, ['one', 'two']);
      const lower = [`${mapped.path}/one`, `${mapped.path}/two`];
      for (const layer of lower) {
        await client.mkdir({ path: `${layer}/d`, mode: 0o700 });
        await client.utimens({ path: `${layer}/d`, atimeNs: LONG_AGO_NS, mtimeNs: null });
      }
      const stored = await client.stat({ path: `${mapped.source}/one/d` });
      t.is(stored.uid, STORED, `${what}: where it is stored`);
      await using overlay = await guest.mountOverlay({ lower }, mounter);
      t.is(await client.errno.readdir({ path: overlay.file('d') }), 'ok', `${what}: listed`);
      for (const layer of lower) {
        const { atimeNs } = await client.stat({ path: `${layer}/d` });
        t.is(atimeNs, LONG_AGO_NS, `${what}: the access time of ${layer}`);
      }
    }
  },
);

guestTest(
  'an upper directory with other numbers is listed without access times where its owner by those of the mount has mounted the overlay (E15)',
  async (t, guest) => {
    await using stack = new AsyncDisposableStack();
    const { client, at, mount } = await forItsOwner(guest, stack);
    for (const name of ['lower/merged', 'upper/merged', 'upper/alone']) {
      await client.mkdir({ path: at(name), mode: 0o700 });
    }
    await client.mkdir({ path: at('upper/foreign') });
    await client.chown({ path: at('upper/foreign'), uid: 1, gid: 1 });
    const overlay = await mount();
    for (const [name, kept] of [
      ['merged', true],
      ['alone', true],
      ['foreign', false],
    ] as const) {
      const path = at(`upper/${name}`);
      // Of a lower layer they are never changed, and for the overlay itself not with O_NOATIME.
      const flags = 'O_RDONLY|O_DIRECTORY|O_NOATIME';
      const fd = await client.open({ path: overlay.file(name), flags });
      await client.utimens({ path, atimeNs: LONG_AGO_NS, mtimeNs: null });
      await client.readdirFd({ fd });
      await client.close({ fd });
      t.is((await client.stat({ path })).atimeNs === LONG_AGO_NS, kept, `${name}: its access time is kept`);
    }
  },
);

guestTest(
  'inode flags on an overlay are for who owns the upper file by the numbers of the mount (E15)',
  async (t, guest) => {
    await using stack = new AsyncDisposableStack();
    const { at, mount } = await forItsOwner(guest, stack);
    const overlay = await mount();
    const chattr = (change: string, path: string) => guest.tryRun(['chattr', change, path]);
    t.is((await chattr('+d', overlay.file('f'))).code, 0, 'set on the overlay');
    const flags = () => flagsOf(guest, at('upper/f'), 'd');
    t.is(await flags(), 'd', 'in the upper layer');
    t.is((await chattr('-d', overlay.file('f'))).code, 0, 'taken away on the overlay');
    t.is(await flags(), '', 'in the upper layer no more');
  },
);
