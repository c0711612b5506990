import { guestTest } from '../lib/guest-test.ts';
import { ecryptfsRequest } from '../lib/stacked-mount.ts';

/** ecryptfs knows no user namespaces: neither do their owners mount it, nor does it translate ids for them. */

guestTest('ecryptfs is not mounted by who is root in a user namespace alone', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  const request = ecryptfsRequest(lower, await guest.ecryptfsKey());
  t.is(await guest.mountErrno(request, client), 'ok', 'root of the machine');
  await using inside = await guest.client({ launcher: ['unshare', '--user', '--map-root-user', '--mount'] });
  t.is(await guest.mountErrno(request, inside), 'EPERM', 'root of a namespace');
  const target = await guest.directory('area', 'tmpfs');
  t.is(
    await inside.errno.mount({ source: 'none', target, type: 'tmpfs' }),
    'ok',
    'it may mount what knows namespaces',
  );
});

guestTest('ids on ecryptfs are not mapped by an idmapped mount of it', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  await using inside = await guest.client({ launcher: ['unshare', '--user'] });
  await inside.getpid({});
  for (const map of ['uid_map', 'gid_map']) {
    const path = `/proc/${inside.pid}/${map}`;
    await client.writeFile({ path, data: '0 1000 10\n', flags: 'O_WRONLY' });
  }
  const target = await guest.directory('area', 'idmapped');
  const mapped = (source: string) => client.errno.mountIdmapped({ source, target, namespaceOf: inside.pid });
  t.is(await mapped(ecryptfs.path), 'EINVAL', 'of ecryptfs');
  t.is(await mapped(lower), 'ok', 'of the filesystem below');
  await client.umount2({ target });
});
