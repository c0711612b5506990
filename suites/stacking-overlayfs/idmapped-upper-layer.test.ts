import type { Client } from '../lib/client.ts';
import { CAPABILITY, MAY_USE_RAW_SOCKETS } from '../lib/file-capabilities.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { idmapped } from '../lib/idmapped.ts';
import { HEEDS_OWNERS } from '../lib/launchers.ts';
import { fill } from '../lib/layers.ts';
import type { StackedMount } from '../lib/stacked-mount.ts';

/** An overlay whose upper layer is on an idmapped mount: what it makes, removes and renames there, it does by the numbers of that mount. */

/** What root on the mount is where it is stored; the users and groups after it follow. */
const STORED = 5000;
const [CALLER, GROUP] = [1500, 1600];
const STICKY = 0o1777;
const WORD = 'user.word';

interface MappedUpper extends AsyncDisposable {
  readonly overlay: StackedMount;
  /** The upper layer as it is stored. */
  readonly stored: string;
}

/** The overlay over `lower`, mounted by `mounter`, when `prepare` has filled the upper layer. */
async function mappedUpper(
  guest: TestGuest,
  client: Client,
  mounter: Client,
  { lower, prepare }: { readonly lower: string; readonly prepare?: (stored: string) => Promise<unknown> },
): Promise<MappedUpper> {
  await using undo = new AsyncDisposableStack();
  const source = await guest.directory('ext4', 'source');
  await fill(client, source, ['upper/', 'work/']);
  const stored = `${source}/upper`;
  await prepare?.(stored);
  await guest.run(['chown', '-R', `${STORED}:${STORED}`, source]);
  const mapped = undo.use(await idmapped(guest, client, source, { inside: STORED, outside: 0, count: 2000 }));
  const layers = { lower, upper: `${mapped.path}/upper`, work: `${mapped.path}/work` };
  const overlay = undo.use(await guest.mountOverlay(layers, mounter));
  const all = undo.move();
  return { overlay, stored, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

guestTest(
  'whatever is made on an overlay, and its whiteouts, are stored in an idmapped upper layer by the numbers of its mount (A45)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    await fill(client, lower, ['removed', 'moved']);
    await using stack = await mappedUpper(guest, client, client, { lower });
    const { overlay, stored } = stack;
    await client.chmod({ path: overlay.path, mode: 0o777 });
    await using caller = await guest.client();
    await caller.chdir({ path: overlay.path });
    await caller.setCredentials({ uid: CALLER, gid: GROUP });
    const owners = async (path: string) => {
      const { uid, gid } = await client.lstat({ path });
      return [uid, gid];
    };
    const made = {
      file: await caller.errno.mknod({ path: 'file', mode: 0o100_644 }),
      fifo: await caller.errno.mknod({ path: 'fifo', mode: 0o010_644 }),
      link: await caller.errno.symlink({ path: 'link', target: 'nowhere' }),
      directory: await caller.errno.mkdir({ path: 'directory' }),
    };
    for (const [name, errno] of Object.entries(made)) {
      t.is(errno, 'ok', `a ${name} is made`);
      t.deepEqual(await owners(overlay.file(name)), [CALLER, GROUP], `the ${name} on the overlay`);
      const there = await owners(`${stored}/${name}`);
      t.deepEqual(there, [STORED + CALLER, STORED + GROUP], `the ${name} where it is stored`);
    }
    t.is(await client.errno.unlink({ path: overlay.file('removed') }), 'ok', 'a lower file is removed');
    const names = { from: overlay.file('moved'), to: overlay.file('renamed') };
    t.is(await client.errno.rename(names), 'ok', 'another one is renamed');
    for (const name of ['removed', 'moved']) {
      const path = `${stored}/${name}`;
      t.is((await client.lstat({ path })).mode, 0o020_000, `${name}: a whiteout is left`);
      t.deepEqual(await owners(path), [STORED, STORED], `${name}: it belongs to root on the mount`);
    }
  },
);

guestTest(
  'in a sticky directory of an idmapped upper layer who has mounted the overlay is the owner by the numbers of the mount (A45)',
  async (t, guest) => {
    await using client = await guest.client();
    await using mounter = await guest.client({ launcher: HEEDS_OWNERS });
    const lower = await guest.directory('ext4', 'lower');
    await using stack = await mappedUpper(guest, client, mounter, {
      lower,
      prepare: async (stored) => {
        await fill(client, stored, ['d/', 'd/file', 'd/directory/', 'd/moved', 'd/guarded']);
        await client.setxattr({ path: `${stored}/d`, name: WORD, data: new Uint8Array([1]) });
        await client.chmod({ path: `${stored}/d`, mode: STICKY });
      },
    });
    const { overlay, stored } = stack;
    const at = (name: string): string => overlay.file(`d/${name}`);
    const guarded = await mounter.errno.unlink({ path: `${stored}/d/guarded` });
    t.is(guarded, 'EPERM', 'by the numbers below it is not the owner');
    t.is(await client.errno.unlink({ path: at('file') }), 'ok', 'a file is removed');
    t.is(await client.errno.rmdir({ path: at('directory') }), 'ok', 'a directory is removed');
    t.is(await client.errno.rename({ from: at('moved'), to: at('renamed') }), 'ok', 'a file is renamed');
    const path = overlay.file('d');
    t.is(await client.errno.removexattr({ path, name: WORD }), 'ok', 'an attribute is removed');
    const other = { path, name: 'user.other', data: new Uint8Array([2]) };
    t.is(await client.errno.setxattr(other), 'ok', 'an attribute is set');
    t.deepEqual((await client.readdir({ path: `${stored}/d` })).toSorted(), ['guarded', 'renamed']);
    t.deepEqual(await client.listxattr({ path: `${stored}/d` }), [other.name]);
  },
);

guestTest(
  'capabilities that a program gets on an overlay are in an idmapped upper layer those of the root of the mount (A45)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    await using stack = await mappedUpper(guest, client, client, {
      lower,
      prepare: (stored) => fill(client, stored, ['program']),
    });
    const { overlay, stored } = stack;
    const of = async (path: string) => Buffer.from(await client.getxattr({ path, name: CAPABILITY }));
    const path = overlay.file('program');
    t.is(await client.errno.setxattr({ path, name: CAPABILITY, data: MAY_USE_RAW_SOCKETS }), 'ok');
    t.deepEqual(await of(path), Buffer.from(MAY_USE_RAW_SOCKETS), 'on the overlay: of any root');
    const there = await of(`${stored}/program`);
    // `struct vfs_ns_cap_data`: the last word is the number of that root.
    t.is(there.length, 24, 'where they are stored: of one root');
    t.is(there.readUInt32LE(20), STORED, 'which is that of the mount');
  },
);
