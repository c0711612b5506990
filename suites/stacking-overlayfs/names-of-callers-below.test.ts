import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill } from '../lib/layers.ts';
import { layersOnFuse } from '../lib/overlay-on-fuse.ts';

/**
 * In whose name the server of all layers is asked when names of an overlay are used by who is not who mounted it
 * (overlayfs.rst, permission model): that of who mounted, and for what is made that of who makes it.
 */

const OWNER = 4000;
const NEW_LIST = { name: 'user.word', data: 'value' };

/** What is done in a directory of the caller's. Whatever is changed there was only below, and is copied up for it. */
const CALLS: readonly ((who: Client) => Promise<unknown>)[] = [
  (who) => who.stat({ path: 'read' }),
  (who) => who.errno.stat({ path: 'nothing' }),
  (who) => who.access({ path: 'read', mode: 'R_OK' }),
  (who) => who.readlink({ path: 'low-link' }),
  (who) => who.readdir({ path: 'dir' }),
  (who) => who.readFile({ path: 'read' }),
  (who) => who.listxattr({ path: 'read' }),
  (who) => who.errno.getxattr({ path: 'read', name: 'user.none' }),
  async (who) => who.close({ fd: await who.open({ path: 'opened', flags: 'O_RDWR' }) }),
  (who) => who.chmod({ path: 'changed', mode: 0o600 }),
  (who) => who.setxattr({ path: 'marked', ...NEW_LIST }),
  (who) => who.removexattr({ path: 'marked', name: NEW_LIST.name }),
  (who) => who.truncate({ path: 'cut', length: 1 }),
  (who) => who.utimens({ path: 'times', atimeNs: 'now', mtimeNs: 'now' }),
  (who) => who.rename({ from: 'moved', to: 'dir/moved' }),
  (who) => who.rename({ from: 'dir/moved', to: 'replaced' }),
  (who) => who.link({ from: 'linked', to: 'dir/linked' }),
  (who) => who.unlink({ path: 'removed' }),
  (who) => who.unlink({ path: 'dir/linked' }),
  (who) => who.rmdir({ path: 'empty' }),
];

/** What makes something, also where a name was removed before. */
const MAKES: Readonly<Record<string, (who: Client, path: string) => Promise<unknown>>> = {
  file: (who, path) => who.mknod({ path, mode: 0o100_644 }),
  directory: (who, path) => who.mkdir({ path }),
  fifo: (who, path) => who.mknod({ path, mode: 0o010_644 }),
  symlink: (who, path) => who.symlink({ path, target: 'nowhere' }),
};
const MAKING = ['CREATE', 'MKNOD', 'MKDIR', 'SYMLINK'];
/** Which say nothing of who asks; and names that have expired are looked up again by whoever walks there. */
const NOBODYS = ['LOOKUP', 'FORGET', 'BATCH_FORGET', 'RELEASE', 'RELEASEDIR', 'INTERRUPT'];

const FILES = [
  'read',
  'opened',
  'changed',
  'marked',
  'cut',
  'times',
  'moved',
  'replaced',
  'linked',
  'removed',
];

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
    const askedFor = async (work: readonly (() => Promise<unknown>)[]) => {
      const after = await fuse.position();
      for (const each of work) await each();
      const all = await fuse.requests({ after });
      return all.filter(({ opcode }) => !NOBODYS.includes(opcode));
    };
    const asked = await askedFor(CALLS.map((call) => () => call(who)));
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

    for (const name of made) await who.unlink({ path: `${name}-removed` });
    const names = made.flatMap((name) => [name, `${name}-removed`]);
    const making = await askedFor(
      Object.entries(MAKES).flatMap(([name, make]) => [
        () => make(who, name),
        () => make(who, `${name}-removed`),
      ]),
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
