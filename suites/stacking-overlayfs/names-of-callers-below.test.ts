import type { BatchCall } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill } from '../lib/layers.ts';
import { layersOnFuse } from '../lib/overlay-on-fuse.ts';

/**
 * In whose name the server of all layers is asked when names of an overlay are used by who is not who mounted it
 * (overlayfs.rst, permission model): that of who mounted, and for what is made that of who makes it.
 */

const OWNER = 4000;

/** What is done in a directory of the caller's. Whatever is changed there was only below, and is copied up for it. */
const CALLS: readonly BatchCall[] = [
  { call: 'open', args: { path: 'read', flags: 'O_RDONLY' } },
  { call: 'pread', args: { fd: { ref: { of: 0 } }, count: 10, offset: 0 } },
  { call: 'close', args: { fd: { ref: { of: 0 } } } },
  { call: 'open', args: { path: 'opened', flags: 'O_RDWR' } },
  { call: 'close', args: { fd: { ref: { of: 3 } } } },
  { call: 'access', args: { path: 'read', mode: 'R_OK' } },
  { call: 'readlink', args: { path: 'low-link' } },
  { call: 'readdir', args: { path: 'dir' } },
  { call: 'listxattr', args: { path: 'read' } },
  { call: 'chmod', args: { path: 'changed', mode: 0o600 } },
  { call: 'setxattr', args: { path: 'marked', name: 'user.word', data: new Uint8Array(5) } },
  { call: 'removexattr', args: { path: 'marked', name: 'user.word' } },
  { call: 'truncate', args: { path: 'cut', length: 1 } },
  { call: 'rename', args: { from: 'moved', to: 'dir/moved' } },
  { call: 'link', args: { from: 'opened', to: 'dir/linked' } },
  { call: 'unlink', args: { path: 'dir/linked' } },
  { call: 'unlink', args: { path: 'read' } },
  { call: 'rmdir', args: { path: 'empty' } },
];

/** What makes something, also where a name was removed before. */
const MAKES: Readonly<Record<string, (path: string) => BatchCall>> = {
  file: (path) => ({ call: 'mknod', args: { path, mode: 0o100_644 } }),
  directory: (path) => ({ call: 'mkdir', args: { path } }),
  symlink: (path) => ({ call: 'symlink', args: { path, target: 'nowhere' } }),
};
const MAKING = ['CREATE', 'MKNOD', 'MKDIR', 'SYMLINK'];
/** Which say nothing of who asks; and names that have expired are looked up again by whoever walks there. */
const NOBODYS = ['LOOKUP', 'FORGET', 'BATCH_FORGET', 'RELEASE', 'RELEASEDIR', 'INTERRUPT'];

const FILES = ['read', 'opened', 'changed', 'marked', 'cut', 'moved'];

guestTest(
  'whoever uses names of an overlay, its layers are asked in the name of who mounted it, and of who makes something for what is made',
  async (t, guest) => {
    await using client = await guest.client();
    await using layers = await layersOnFuse(guest, client);
    const { fuse } = layers;
    const lower = fuse.backing('lower');
    const made = Object.keys(MAKES);
    await fill(client, lower, [
      ...FILES,
      ...made.map((name) => `${name}-removed`),
      'dir/',
      'dir/f',
      'empty/',
    ]);
    await client.symlink({ path: `${lower}/low-link`, target: 'read' });
    // For everybody: this server leaves a copy that has no name yet to root.
    await guest.run(['chmod', '-R', 'a+rwX', lower]);
    await guest.run(['chown', '-hR', `${OWNER}:${OWNER}`, lower]);
    await using overlay = await layers.mount();
    await client.chown({ path: overlay.path, uid: OWNER, gid: OWNER });
    await using who = await guest.client();
    await who.chdir({ path: overlay.path });
    await who.setCredentials({ uid: OWNER, gid: OWNER });
    const askedFor = async (calls: readonly BatchCall[]) => {
      const after = await fuse.position();
      const results = await who.batch({ calls, oneThread: true });
      for (const [nth, result] of results.entries()) t.true('value' in result, calls[nth]?.call);
      const all = await fuse.requests({ after });
      return all.filter(({ opcode }) => !NOBODYS.includes(opcode));
    };
    const asked = await askedFor(CALLS);
    const own = asked.filter(({ uid, gid }) => uid !== 0 || gid !== 0);
    t.deepEqual(
      own.map(({ opcode, path }) => `${opcode} ${path}`),
      [],
      'asked in the name of the caller, though nothing is made',
    );
    const opcodes = new Set(asked.map(({ opcode }) => opcode));
    for (const opcode of ['OPEN', 'READ', 'SETATTR', 'SETXATTR', 'LINK', 'UNLINK', 'MKDIR'] as const) {
      t.true(opcodes.has(opcode), `${opcode} was asked for`);
    }

    await askedFor(made.map((name) => ({ call: 'unlink', args: { path: `${name}-removed` } })));
    const names = made.flatMap((name) => [name, `${name}-removed`]);
    const making = await askedFor(
      Object.entries(MAKES).flatMap(([name, make]) => [make(name), make(`${name}-removed`)]),
    );
    const makers = making
      .filter(({ opcode }) => MAKING.includes(opcode))
      .map(({ uid, gid }) => ({ uid, gid }));
    t.deepEqual(
      makers,
      names.map(() => ({ uid: OWNER, gid: OWNER })),
      'made in the name of the caller',
    );
    for (const name of names) {
      const { uid, gid } = await client.lstat({ path: fuse.backing(`upper/${name}`) });
      t.deepEqual({ uid, gid }, { uid: OWNER, gid: OWNER }, `${name} belongs to the caller`);
    }
  },
);
