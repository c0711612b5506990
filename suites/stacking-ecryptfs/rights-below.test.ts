import { aclFor } from '../lib/access-control-list.ts';
import type { Client } from '../lib/client.ts';
import { ecryptfsOnFuse } from '../lib/ecryptfs-on-fuse.ts';
import { guestTest } from '../lib/guest-test.ts';
import { ecryptfsOptions } from '../lib/stacked-mount.ts';

/** Who may do what on ecryptfs: as the lower filesystem has it, and as the real user of a mount may. */

const FIFO = 0o010_666;

/** What is made, with all that a caller may ask for. */
const MADE: Readonly<Record<string, (client: Client, path: string) => Promise<unknown>>> = {
  file: async (client, path) => client.close({ fd: await client.creat({ path, mode: 0o666 }) }),
  directory: (client, path) => client.mkdir({ path, mode: 0o777 }),
  pipe: (client, path) => client.mknod({ path, mode: FIFO }),
};

guestTest(
  'what is made on ecryptfs where a list of who may says its mode has that mode, whatever the umask',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    await using maker = await guest.client();
    await maker.umask({ mask: 0o077 });
    const list = { name: 'system.posix_acl_default', data: aclFor([1500], 7) };
    const modes: Record<string, Record<string, string>> = {};
    for (const [where, path] of [
      ['below', `${lower}/native`],
      ['on ecryptfs', ecryptfs.file('d')],
    ] as const) {
      await client.mkdir({ path });
      await client.setxattr({ path, ...list });
      modes[where] = {};
      for (const [what, make] of Object.entries(MADE)) {
        await make(maker, `${path}/${what}`);
        modes[where][what] = ((await client.lstat({ path: `${path}/${what}` })).mode & 0o7777).toString(8);
      }
    }
    t.deepEqual(modes['below'], { file: '660', directory: '670', pipe: '660' }, 'as the list says it');
    t.deepEqual(modes['on ecryptfs'], modes['below']);
    // Where there is no list, it is the umask that counts.
    await maker.close({ fd: await maker.creat({ path: ecryptfs.file('f'), mode: 0o666 }) });
    t.is((await client.stat({ path: `${lower}/f` })).mode & 0o777, 0o600, 'without a list');
  },
);

guestTest('whom the lower server does not serve, ecryptfs on it does not serve either', async (t, guest) => {
  await using client = await guest.client();
  const opened = async (allowOther: boolean): Promise<string> => {
    await using stack = await ecryptfsOnFuse(guest, client, { allowOther });
    const { ecryptfs } = stack;
    await client.chmod({ path: ecryptfs.path, mode: 0o755 });
    await client.writeFile({ path: ecryptfs.file('f'), data: 'contents', mode: 0o644 });
    await using stranger = await guest.client();
    await stranger.chdir({ path: ecryptfs.path });
    await stranger.setCredentials({ uid: 1500, gid: 1500 });
    return await stranger.errno.readFile({ path: 'f' });
  };
  t.is(await opened(true), 'ok', 'with allow_other');
  t.is(await opened(false), 'EACCES', 'without it, whatever the mode is');
});

/** The keys of root stay at hand when the user changes. */
const WITH_ROOTS_KEYS = ['keyctl', 'session', '-', 'sh', '-c', 'keyctl link @u @s && exec "$@"', 'sh'];

guestTest('ecryptfs_check_dev_ruid asks who the real user is, not the effective one', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  const options = ecryptfsOptions(await guest.ecryptfsKey(), { more: ['ecryptfs_check_dev_ruid'] });
  await using mounter = await guest.client({ launcher: WITH_ROOTS_KEYS });
  // As a program with the set-user-ID bit is.
  await mounter.setCredentials({ uid: [1500, 0, 0], gid: 0 });
  const mounted: Record<string, string> = {};
  for (const uid of [0, 1500]) {
    await client.chown({ path: lower, uid, gid: 0 });
    mounted[uid] = await guest.mountErrno({ source: lower, type: 'ecryptfs', options }, mounter);
  }
  t.deepEqual(mounted, { 0: 'EPERM', 1500: 'ok' }, 'by owner of the directory');
});
