import { bytes, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { AUTH_TOKEN_VERSION, KeyringKey, TokenType, type AuthToken } from '../lib/ecryptfs-keys.ts';
import { eventually } from '../lib/eventually.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { ecryptfsOptions } from '../lib/stacked-mount.ts';

/** A key that is in no keyring any more is gone when ecryptfs has done with it: nothing of ecryptfs keeps it. */

/** Signature of no key. */
const NOBODYS = '0123456789abcdef';

interface Bench {
  readonly guest: TestGuest;
  readonly client: Client;
  readonly lower: string;
  readonly key: KeyringKey;
  /** Mounts with options, does something with files, unmounts. */
  readonly mounted: (
    options: string,
    work: (file: (name: string) => string) => Promise<unknown>,
  ) => Promise<void>;
  /** Asserts what a mount, or a call, gives. */
  readonly expect: (is: string, errno: Promise<string>) => Promise<void>;
}

interface Use {
  readonly signature: string;
  readonly token?: Partial<AuthToken>;
  readonly use: (bench: Bench, options: string) => Promise<void>;
}

const mountErrno = ({ guest, client, lower }: Bench, options: string, source = lower): Promise<string> =>
  guest.mountErrno({ source, type: 'ecryptfs', options }, client);

const USES: Readonly<Record<string, Use>> = {
  'a mount that is refused for the version of its key': {
    signature: 'bbbbbbbbbbbb0001',
    token: { version: AUTH_TOKEN_VERSION + 1 },
    use: (bench, options) => bench.expect('EINVAL', mountErrno(bench, options)),
  },
  'a mount that is refused for another of its keys': {
    signature: 'bbbbbbbbbbbb0002',
    use: async (bench, options) => {
      await bench.expect('ENOENT', mountErrno(bench, `${options},ecryptfs_sig=${NOBODYS}`));
      await bench.expect('ENOENT', mountErrno(bench, `ecryptfs_sig=${NOBODYS},${options}`));
    },
  },
  'a mount that finds no directory': {
    signature: 'bbbbbbbbbbbb0003',
    use: (bench, options) => bench.expect('ENOENT', mountErrno(bench, options, `${bench.lower}/missing`)),
  },
  'a mount on which files were made and read': {
    signature: 'bbbbbbbbbbbb0004',
    use: async ({ client, mounted }, options) => {
      await mounted(options, (file) => client.writeFile({ path: file('f'), data: 'contents' }));
      await mounted(options, async (file) => {
        const seen = text(await client.readFile({ path: file('f') }));
        if (seen !== 'contents') throw new Error(`the file reads ${seen}`);
      });
    },
  },
  'a mount that encrypts names': {
    signature: 'bbbbbbbbbbbb0005',
    use: async ({ client, mounted }, options) => {
      const names = `${options},ecryptfs_fnek_sig=bbbbbbbbbbbb0005,ecryptfs_fn_key_bytes=16`;
      await mounted(names, async (file) => {
        await client.symlink({ target: 'somewhere', path: file('l') });
      });
      await mounted(names, async (file) => {
        const seen = [
          ...(await client.readdir({ path: file('.') })),
          await client.readlink({ path: file('l') }),
        ];
        if (seen.join() !== 'l,somewhere') throw new Error(`the directory has ${seen.join()}`);
      });
    },
  },
  'a mount whose key was revoked': {
    signature: 'bbbbbbbbbbbb0006',
    use: ({ client, key, mounted, expect }, options) =>
      mounted(options, async (file) => {
        await key.revoke();
        await expect('EINVAL', client.errno.creat({ path: file('f') }));
      }),
  },
  'a private key that no daemon takes': {
    signature: 'bbbbbbbbbbbb0007',
    token: { type: TokenType.privateKey },
    use: ({ client, mounted, expect }, options) =>
      mounted(options, (file) => expect('ENOTCONN', client.errno.creat({ path: file('f') }))),
  },
  'a private key that has the key of files in it': {
    signature: 'bbbbbbbbbbbb0008',
    token: { type: TokenType.privateKey, encryptedKey: new Uint8Array(256).fill(0x5a) },
    use: async ({ client, mounted, expect }, options) => {
      await mounted(options, (file) => client.writeFile({ path: file('f'), data: bytes('contents') }));
      await mounted(options, (file) => expect('EIO', client.errno.readFile({ path: file('f') })));
    },
  },
};

for (const [what, { signature, token, use }] of Object.entries(USES)) {
  guestTest(`${what} keeps no key when it is over`, async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const listed = async (): Promise<boolean> =>
      text(await client.readFile({ path: '/proc/keys' })).includes(` ${signature}: `);
    {
      await using key = await KeyringKey.add(guest, { signature, ...token });
      t.true(await listed(), 'while it is in a keyring it is listed');
      const mounted: Bench['mounted'] = async (options, work) => {
        await using ecryptfs = await guest.mount({ source: lower, type: 'ecryptfs', options }, client);
        await work((name) => ecryptfs.file(name));
        t.is(await ecryptfs.unmount(), 'ok');
      };
      const expect: Bench['expect'] = async (is, errno) => {
        t.is(await errno, is);
      };
      await use({ guest, client, lower, key, mounted, expect }, ecryptfsOptions(signature));
    }
    // It is taken out of the list by a thread of the kernel.
    t.false(await eventually(listed, (there) => !there, 2000), 'nobody has it any more, and it is listed');
  });
}
