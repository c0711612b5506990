import { aclFor } from '../lib/access-control-list.ts';
import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill } from '../lib/layers.ts';
import { upperOn } from '../lib/stack.ts';

/** Who may do what on an overlay: it acts on its layers as who mounted it, and asks for the caller's rights itself. */

const [OWNER, GROUP, STRANGER] = [1234, 2345, 4000];
const LONG_AGO_NS = 1_500_000_000_000_000_000;
/** What a list may allow. */
const READ = 4;

/** An overlay whose lower layer has `f`, which belongs to OWNER and GROUP. */
async function overlayWith(guest: TestGuest, client: Client, mode: number) {
  await using undo = new AsyncDisposableStack();
  const lower = await guest.directory('ext4', 'lower');
  const layers = await upperOn(guest);
  const path = `${lower}/f`;
  await client.writeFile({ path, data: 'from below' });
  await client.chown({ path, uid: OWNER, gid: GROUP });
  await client.chmod({ path, mode });
  await client.chmod({ path: layers.upper, mode: 0o755 });
  const overlay = undo.use(await guest.mountOverlay({ lower, ...layers }, client));
  const all = undo.move();
  return { overlay, upper: layers.upper, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

/** Where the file is `f`: a user may have no way to there. */
async function inside(
  guest: TestGuest,
  path: string,
  who: { readonly uid: number; readonly gid: number },
): Promise<Client> {
  const client = await guest.client();
  await client.chdir({ path });
  await client.setCredentials(who);
  return client;
}

guestTest('nobody but its owner changes mode, owner or times of a file of an overlay', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await overlayWith(guest, client, 0o666);
  const [at, path] = [stack.overlay.path, 'f'];
  await using stranger = await inside(guest, at, { uid: STRANGER, gid: STRANGER });
  const changes: Readonly<Record<string, (by: Client) => Promise<string>>> = {
    chmod: (by) => by.errno.chmod({ path, mode: 0o600 }),
    'a time of its choice': (by) => by.errno.utimens({ path, atimeNs: LONG_AGO_NS, mtimeNs: LONG_AGO_NS }),
    'a new group': (by) => by.errno.chown({ path, uid: -1, gid: STRANGER }),
    'a new owner': (by) => by.errno.chown({ path, uid: STRANGER, gid: -1 }),
  };
  for (const [what, change] of Object.entries(changes)) {
    t.is(await change(stranger), 'EPERM', `a stranger: ${what}`);
  }
  t.deepEqual(await client.readdir({ path: stack.upper }), [], 'nothing was copied up for it');

  await using owner = await inside(guest, at, { uid: OWNER, gid: OWNER });
  t.is(await owner.errno.chown({ path, uid: STRANGER, gid: -1 }), 'EPERM', 'its owner gives it to nobody');
  t.is(await owner.errno.chown({ path, uid: -1, gid: STRANGER }), 'EPERM', 'nor to a group it is not in');
  t.is(await owner.errno.chmod({ path, mode: 0o2755 }), 'ok');
  const mode = ((await client.stat({ path: `${stack.upper}/f` })).mode & 0o7777).toString(8);
  t.is(mode, '755', 'no setgid bit for a group that its owner is not in');
});

guestTest('the group of a file of an overlay has the rights of that group', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await overlayWith(guest, client, 0o640);
  const read = async (gid: number): Promise<string> => {
    await using member = await inside(guest, stack.overlay.path, { uid: STRANGER, gid });
    return await member.errno.readFile({ path: 'f' });
  };
  t.is(await read(GROUP), 'ok', 'the group below');
  t.is(await read(0), 'EACCES', 'another group, and be it that of root');
  await client.chown({ path: stack.overlay.file('f'), uid: -1, gid: GROUP + 1 });
  t.is(await read(GROUP + 1), 'ok', 'a group that was given on the overlay');
  t.is(await read(GROUP), 'EACCES', 'the group that it was taken from');
  t.is(text(await client.readFile({ path: `${stack.upper}/f` })), 'from below', 'the upper file');
});

guestTest('an access control list that is set on an overlay counts at once (A45)', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await overlayWith(guest, client, 0o600);
  const [path, name] = ['f', 'system.posix_acl_access'];
  await using stranger = await inside(guest, stack.overlay.path, { uid: STRANGER, gid: STRANGER });
  t.is(await stranger.errno.open({ path, flags: 'O_RDONLY' }), 'EACCES', 'before');
  await client.setxattr({ path: stack.overlay.file(path), name, data: aclFor([STRANGER], READ) });
  t.is(await stranger.errno.open({ path, flags: 'O_RDONLY' }), 'ok', 'with a list that names the stranger');
  t.is(await stranger.errno.open({ path, flags: 'O_RDWR' }), 'EACCES', 'and does not let it write');
  t.deepEqual(await listOf(stack.overlay.file(path)), aclFor([STRANGER], READ), 'it is told');
  const mode = async (at: string) => (await client.stat({ path: `${at}/f` })).mode & 0o7777;
  t.deepEqual(
    [await mode(stack.overlay.path), await mode(stack.upper)],
    [0o640, 0o640],
    'the mask is in the mode',
  );
  await client.setxattr({ path: stack.overlay.file(path), name, data: aclFor([STRANGER + 1], READ) });
  t.is(await stranger.errno.open({ path, flags: 'O_RDONLY' }), 'EACCES', 'with another list');
  t.deepEqual(await listOf(stack.overlay.file(path)), aclFor([STRANGER + 1], READ), 'the other list is told');

  async function listOf(at: string): Promise<Uint8Array> {
    return new Uint8Array(await client.getxattr({ path: at, name }));
  }
});

guestTest(
  'a list set by an owner who is not in the group takes the setgid bit away on an overlay (A45)',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await overlayWith(guest, client, 0o2755);
    const data = aclFor([STRANGER], READ);
    await using owner = await inside(guest, stack.overlay.path, { uid: OWNER, gid: OWNER });
    t.is(await owner.errno.setxattr({ path: 'f', name: 'system.posix_acl_access', data }), 'ok');
    const { mode } = await client.stat({ path: `${stack.upper}/f` });
    t.is((mode & 0o7777).toString(8), '640');
  },
);

guestTest('a list that a file of the lower layer does not have cannot be removed (A45)', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await overlayWith(guest, client, 0o640);
  const list = { path: stack.overlay.file('f'), name: 'system.posix_acl_access' };
  t.is(await client.errno.removexattr(list), 'ENODATA');
  t.deepEqual(await client.readdir({ path: stack.upper }), [], 'nothing is copied up for that');
});

guestTest('a list that the work directory would give is not given to what is copied up', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'lower');
  const { upper, work } = await upperOn(guest);
  await fill(client, lower, ['f', 'd/']);
  await client.setxattr({ path: work, name: 'system.posix_acl_default', data: aclFor([STRANGER], 7) });
  await using overlay = await guest.mountOverlay({ lower, upper, work }, client);
  for (const name of ['f', 'd']) {
    await client.chmod({ path: overlay.file(name), mode: 0o750 });
    t.is((await client.stat({ path: `${upper}/${name}` })).mode & 0o7777, 0o750, `${name}: its mode`);
    for (const kind of ['access', 'default']) {
      const list = { path: `${upper}/${name}`, name: `system.posix_acl_${kind}` };
      t.is(await client.errno.getxattr(list), 'ENODATA', `${name}: no ${kind} list`);
    }
  }
});

guestTest(
  'a list that its directory gives to new files is not given to what is copied up',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    const layers = await upperOn(guest);
    await fill(client, lower, ['d/', 'd/f', 'd/sub/']);
    const list = { name: 'system.posix_acl_default', data: aclFor([STRANGER], 7) };
    await client.setxattr({ path: `${lower}/d`, ...list });
    await using overlay = await guest.mountOverlay({ lower, ...layers }, client);
    for (const name of ['f', 'sub']) {
      await client.chmod({ path: overlay.file(`d/${name}`), mode: 0o750 });
      const path = `${layers.upper}/d/${name}`;
      t.is((await client.stat({ path })).mode & 0o7777, 0o750, `${name}: its mode`);
      for (const kind of ['access', 'default']) {
        const none = await client.errno.getxattr({ path, name: `system.posix_acl_${kind}` });
        t.is(none, 'ENODATA', `${name}: no ${kind} list`);
      }
    }
    const given = await client.errno.getxattr({ path: `${layers.upper}/d`, name: list.name });
    t.is(given, 'ok', 'the copy of the directory has it');
  },
);

guestTest('a truncation and a new owner take the set-user-id bit away on an overlay', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await overlayWith(guest, client, 0o4755);
  const path = stack.overlay.file('f');
  const mode = async () => ((await client.stat({ path: `${stack.upper}/f` })).mode & 0o7777).toString(8);
  await using owner = await inside(guest, stack.overlay.path, { uid: OWNER, gid: OWNER });
  t.is(await owner.errno.truncate({ path: 'f', length: 4 }), 'ok');
  t.is(await mode(), '755', 'a truncation by its owner');
  await client.chmod({ path, mode: 0o4755 });
  t.is(await mode(), '4755', 'set again');
  t.is(await client.errno.chown({ path, uid: STRANGER, gid: -1 }), 'ok');
  t.is(await mode(), '755', 'a new owner');
});
