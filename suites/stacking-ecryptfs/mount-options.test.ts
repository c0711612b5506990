import { bytes, text } from '../lib/bytes.ts';
import { DONE, FsContext } from '../lib/fs-context.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { idmapped } from '../lib/idmapped.ts';
import { mountedAt } from '../lib/mounted-at.ts';
import { ecryptfsOptions } from '../lib/stacked-mount.ts';

/** What mounts of ecryptfs refuse, and what they make of files and attributes below. */

async function optionsFor(guest: TestGuest, more = ''): Promise<string> {
  return ecryptfsOptions(await guest.ecryptfsKey()) + more;
}

guestTest(
  'ecryptfs is not mounted over an idmapped mount, nor over what another user owns',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const mount = async (source: string, more = ''): Promise<string> =>
      guest.mountErrno({ source, type: 'ecryptfs', options: await optionsFor(guest, more) }, client);
    {
      await using mapped = await idmapped(guest, client, lower);
      t.is(await mount(mapped.path), 'EINVAL', 'an idmapped mount');
    }
    t.is(await mount(lower), 'ok', 'the directory itself');
    t.is(await mount(lower, ',ecryptfs_check_dev_ruid'), 'ok', 'and it is who mounts who owns it');
    await client.chown({ path: lower, uid: 1500, gid: 1500 });
    t.is(await mount(lower, ',ecryptfs_check_dev_ruid'), 'EPERM', 'another owner');
    t.is(await mount(lower), 'ok', 'where nobody asks');
  },
);

guestTest('an encrypted view shows the lower file as it is, and is read-only', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  {
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    await client.writeFile({ path: ecryptfs.file('f'), data: 'contents' });
    t.is(await ecryptfs.unmount(), 'ok');
  }
  const options = await optionsFor(guest, ',ecryptfs_encrypted_view');
  await using view = await guest.mount({ source: lower, type: 'ecryptfs', options }, client);
  const stored = await client.readFile({ path: `${lower}/f` });
  const seen = await client.readFile({ path: view.file('f') });
  t.deepEqual(seen.subarray(0, 4096), stored.subarray(0, 4096), 'header and all');
  t.is(await client.errno.open({ path: view.file('f'), flags: 'O_RDWR' }), 'EROFS');
  t.is(await client.errno.mkdir({ path: view.file('d') }), 'EROFS');
});

guestTest(
  'what changes below ecryptfs is told by the next stat, and attributes removed are removed below',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    const path = ecryptfs.file('f');
    await client.writeFile({ path, data: 'contents' });
    const fd = await client.open({ path, flags: 'O_RDONLY' });
    await client.chmod({ path: `${lower}/f`, mode: 0o604 });
    await client.chown({ path: `${lower}/f`, uid: 1500, gid: 1600 });
    await client.link({ from: `${lower}/f`, to: `${lower}/g` });
    const { mode, uid, gid, nlink, size } = await client.fstat({ fd });
    t.deepEqual(
      { mode, uid, gid, nlink, size },
      { mode: 0o100_604, uid: 1500, gid: 1600, nlink: 2, size: 8 },
    );
    await client.close({ fd });
    await client.symlink({ target: 'somewhere', path: ecryptfs.file('l') });
    await client.link({ from: `${lower}/l`, to: `${lower}/m` });
    t.is((await client.lstat({ path: ecryptfs.file('l') })).nlink, 2, 'names of a symbolic link');

    await client.setxattr({ path, name: 'user.word', data: 'value' });
    t.is(text(await client.getxattr({ path: `${lower}/f`, name: 'user.word' })), 'value');
    await client.removexattr({ path, name: 'user.word' });
    t.is(await client.errno.getxattr({ path: `${lower}/f`, name: 'user.word' }), 'ENODATA');
    t.is(await client.errno.removexattr({ path, name: 'user.word' }), 'ENODATA', 'removed twice');

    for (const name of ['a', 'b']) await client.mkdir({ path: ecryptfs.file(name) });
    t.is((await client.stat({ path: ecryptfs.path })).nlink, 4, 'links of a directory with two in it');
    await client.rmdir({ path: ecryptfs.file('a') });
    t.is((await client.stat({ path: ecryptfs.path })).nlink, 3);
    await client.unlink({ path });
    await client.writeFile({ path, data: 'made anew' });
    t.is(text(await client.readFile({ path })), 'made anew', 'a name that was removed');
  },
);

guestTest(
  'a mount below does not show on ecryptfs, and a file that finds no room leaves no name',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await client.mkdir({ path: `${lower}/m` });
    await client.mount({ source: 'none', target: `${lower}/m`, type: 'tmpfs' });
    {
      await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
      t.deepEqual(await client.readdir({ path: ecryptfs.file('m') }), [], 'the directory under the mount');
      t.is(await client.errno.creat({ path: ecryptfs.file('m/f') }), 'ok');
    }
    t.deepEqual(await client.readdir({ path: `${lower}/m` }), [], 'nothing went to what is mounted there');
    await client.umount2({ target: `${lower}/m` });
    t.deepEqual(await client.readdir({ path: `${lower}/m` }), ['f']);

    // Room for a name, and none for the header that every file begins with.
    const small = await guest.directory('area', 'small');
    await client.mount({ source: 'none', target: small, type: 'tmpfs', options: 'size=16k' });
    {
      await using ecryptfs = await guest.mountEcryptfs({ lower: small }, client);
      await client.writeFile({ path: `${small}/full`, data: new Uint8Array(16 * 1024) });
      t.is(await client.errno.writeFile({ path: ecryptfs.file('f'), data: bytes('x') }), 'ENOSPC');
      t.deepEqual(await client.readdir({ path: small }), ['full']);
    }
    await client.umount2({ target: small });
  },
);

guestTest(
  'with ecryptfs_passthrough a file without a header is read and written as it is',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('area', 'small');
    await client.mount({ source: 'none', target: lower, type: 'tmpfs', options: 'size=16k' });
    await client.writeFile({ path: `${lower}/plain`, data: 'in the clear' });
    {
      const options = await optionsFor(guest, ',ecryptfs_passthrough');
      await using ecryptfs = await guest.mount({ source: lower, type: 'ecryptfs', options }, client);
      const fd = await client.open({ path: ecryptfs.file('plain'), flags: 'O_RDWR' });
      t.is(text(await client.pread({ fd, count: 100, offset: 0 })), 'in the clear');
      await client.pwrite({ fd, data: ' and longer', offset: 12 });
      t.is(text(await client.readFile({ path: `${lower}/plain` })), 'in the clear and longer', 'below');
      t.is((await client.fstat({ fd })).size, 23);
      await client.writeFile({ path: `${lower}/full`, data: new Uint8Array(3 * 4096) });
      t.is(
        await client.errno.pwrite({ fd, data: bytes('x'), offset: 4096 }),
        'ENOSPC',
        'what is wrong below is told',
      );
      await client.ftruncate({ fd, length: 2 });
      t.is(text(await client.readFile({ path: `${lower}/plain` })), 'in');
      await client.close({ fd });
    }
    await client.umount2({ target: lower });
  },
);

/** By options that are given besides those of a key: what there is to see besides them. */
const SHOWN: Readonly<Record<string, readonly string[]>> = {
  '': [],
  ecryptfs_passthrough: ['ecryptfs_passthrough'],
  ecryptfs_xattr_metadata: ['ecryptfs_xattr_metadata'],
  ecryptfs_encrypted_view: ['ecryptfs_encrypted_view', 'ecryptfs_xattr_metadata'],
  ecryptfs_unlink_sigs: ['ecryptfs_unlink_sigs'],
  ecryptfs_mount_auth_tok_only: ['ecryptfs_mount_auth_tok_only'],
};

guestTest('the options of a mount of ecryptfs are there to see', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  const signature = await guest.ecryptfsKey();
  const shown = async (options: string): Promise<string[]> => {
    await using ecryptfs = await guest.mount({ source: lower, type: 'ecryptfs', options }, client);
    return (await mountedAt(client, ecryptfs.path)).options.split(',').sort();
  };
  for (const keyBytes of [16, 32] as const) {
    const key = ecryptfsOptions(signature, { keyBytes });
    t.deepEqual(await shown(key), ['rw', ...key.split(',')].sort(), `a key of ${keyBytes} bytes`);
    const fnek = `ecryptfs_fnek_sig=${signature}`;
    const meant = [fnek, 'ecryptfs_fn_cipher=aes', `ecryptfs_fn_key_bytes=${keyBytes}`];
    const all = ['rw', ...key.split(','), ...meant].sort();
    t.deepEqual(await shown(`${key},${fnek}`), all, `names with as much of a key as data, ${keyBytes} bytes`);
  }
  const names = ecryptfsOptions(signature, { namesKey: signature });
  t.deepEqual(await shown(names), ['rw', 'ecryptfs_fn_cipher=aes', ...names.split(',')].sort(), 'names');
  const key = ecryptfsOptions(signature);
  for (const [given, seen] of Object.entries(SHOWN)) {
    const access = given === 'ecryptfs_encrypted_view' ? 'ro' : 'rw';
    const all = [access, ...key.split(','), ...seen].sort();
    t.deepEqual(await shown(given === '' ? key : `${key},${given}`), all, given);
  }
});

/** Mounts that are refused, by what is asked for; `S` is the signature of a key. */
const REFUSED: Readonly<Record<string, string>> = {
  'no length of a key': 'ecryptfs_sig=S,ecryptfs_cipher=aes',
  'a key of no length': 'ecryptfs_sig=S,ecryptfs_cipher=aes,ecryptfs_key_bytes=0',
  'no options that count': ',,unknown',
  'a key for names alone': 'ecryptfs_fnek_sig=S,ecryptfs_cipher=aes,ecryptfs_key_bytes=16',
  'a cipher that there is not, with the short name of the option': 'sig=S,cipher=rot13,ecryptfs_key_bytes=16',
  // Blowfish, which is a module in other kernels.
  'a cipher that is not built': 'ecryptfs_sig=S,ecryptfs_cipher=blowfish,ecryptfs_key_bytes=16',
  'a key of more than 64 bytes': 'ecryptfs_sig=S,ecryptfs_cipher=blowfish,ecryptfs_key_bytes=65',
  'a cipher for names that there is not':
    'ecryptfs_sig=S,ecryptfs_cipher=aes,ecryptfs_key_bytes=16,ecryptfs_fnek_sig=S,ecryptfs_fn_cipher=rot13',
};

guestTest(
  'ecryptfs is not mounted with options that it cannot do with, or without a directory',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const signature = await guest.ecryptfsKey();
    const mount = (source: string, options: string) =>
      guest.mountErrno(
        { source, type: 'ecryptfs', options: options.replaceAll('=S', `=${signature}`) },
        client,
      );
    for (const [what, options] of Object.entries(REFUSED)) t.is(await mount(lower, options), 'EINVAL', what);
    const target = await guest.directory('area', 'ecryptfs');
    t.is(
      await client.errno.mount({ source: lower, target, type: 'ecryptfs' }),
      'EINVAL',
      'no options at all',
    );
    const all = ecryptfsOptions(signature);
    await client.writeFile({ path: `${lower}/f`, data: '' });
    t.is(await mount(`${lower}/missing`, all), 'ENOENT');
    t.is(await mount(`${lower}/f`, all), 'ENOTDIR');
    t.is(await mount(lower, all), 'ok');
    await client.mkdir({ path: `${lower}/d` });
    await client.symlink({ target: 'd', path: `${lower}/l` });
    t.is(await mount(`${lower}/l`, all), 'ok', 'a link to a directory');

    await using context = await FsContext.open(client, 'ecryptfs');
    for (const option of all.split(',')) t.deepEqual(await context.set(option), DONE, option);
    const after = (await guest.kernelLog()).at(-1)?.seq;
    t.is((await context.create()).errno, 'EINVAL', 'no directory is named');
    const said = (await guest.kernelLog(after)).map((record) => record.text);
    t.deepEqual(said, ['Device name cannot be null; rc = [-22]']);
  },
);

/** By options that are given: those that are seen then, besides the signature. */
const MEANT: Readonly<Record<string, readonly string[]>> = {
  'sig=S,cipher=aes,ecryptfs_key_bytes=16': [],
  ',ecryptfs_sig=S,,ecryptfs_cipher=aes,unknown,ecryptfs_key_bytes=16,': [],
  'ecryptfs_sig=S,ecryptfs_key_bytes=16': [],
  'ecryptfs_sig=S,ecryptfs_key_bytes=16,ecryptfs_fnek_sig=S': [
    'ecryptfs_fnek_sig=S',
    'ecryptfs_fn_cipher=aes',
    'ecryptfs_fn_key_bytes=16',
  ],
  // Hexadecimal and octal.
  'ecryptfs_sig=S,ecryptfs_key_bytes=0x10,ecryptfs_fnek_sig=S,ecryptfs_fn_key_bytes=020': [
    'ecryptfs_fnek_sig=S',
    'ecryptfs_fn_cipher=aes',
    'ecryptfs_fn_key_bytes=16',
  ],
  'ecryptfs_fn_key_bytes=32,ecryptfs_fnek_sig=S,ecryptfs_sig=S,ecryptfs_key_bytes=16': [
    'ecryptfs_fnek_sig=S',
    'ecryptfs_fn_cipher=aes',
    'ecryptfs_fn_key_bytes=32',
  ],
  'ecryptfs_sig=S,ecryptfs_key_bytes=16,ecryptfs_fnek_sig=S,ecryptfs_fn_key_bytes=0': [
    'ecryptfs_fnek_sig=S',
    'ecryptfs_fn_cipher=aes',
  ],
};

guestTest(
  'options of ecryptfs have short names, defaults, and are left out where they are unknown',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const signature = await guest.ecryptfsKey();
    const named = (option: string) => option.replaceAll('=S', `=${signature}`);
    for (const [given, seen] of Object.entries(MEANT)) {
      await using ecryptfs = await guest.mount(
        { source: lower, type: 'ecryptfs', options: named(given) },
        client,
      );
      const { options } = await mountedAt(client, ecryptfs.path);
      const all = ['rw', ...ecryptfsOptions(signature).split(','), ...seen.map(named)];
      t.deepEqual(options.split(',').sort(), all.sort(), given);
    }
  },
);
