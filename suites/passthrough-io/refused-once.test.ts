import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { OpcodeName } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';

/** ENOSYS of a server is for good. Any other error is the answer to one call, and says nothing of the next one. */

interface Call {
  readonly opcode: readonly OpcodeName[];
  readonly make: (client: Client, fds: { fd: number; to: number }) => Promise<unknown>;
  /** What comes of a call that the server refuses with EOPNOTSUPP, and of one that it answers. */
  readonly refused: unknown;
  readonly answered: unknown;
}

const CALLS: Readonly<Record<string, Call>> = {
  fallocate: {
    opcode: ['FALLOCATE'],
    make: (client, { fd }) => client.errno.fallocate({ fd, offset: 0, length: 8 }),
    refused: 'EOPNOTSUPP',
    answered: 'ok',
  },
  'lseek with SEEK_DATA': {
    opcode: ['LSEEK'],
    make: (client, { fd }) => client.errno.lseek({ fd, offset: 3, whence: 'SEEK_DATA' }),
    refused: 'EOPNOTSUPP',
    answered: 'ok',
  },
  copy_file_range: {
    opcode: ['COPY_FILE_RANGE', 'COPY_FILE_RANGE_64'],
    // Without the server the kernel copies by itself.
    make: (client, { fd, to }) =>
      client.errno.copy_file_range({ fdIn: fd, offIn: 0, fdOut: to, offOut: 0, length: 8 }),
    refused: 'ok',
    answered: 'ok',
  },
};

for (const passthrough of ['off', 'auto'] as const) {
  guestTest(
    `a server that answers EOPNOTSUPP to one call is asked again by the next, passthrough ${passthrough}`,
    async (t, guest) => {
      await using fuse = await guest.mountFuse({ passthrough });
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      const to = await client.open({ path: fuse.file('to'), flags: 'O_RDWR|O_CREAT' });
      for (const [what, { opcode, make, refused, answered }] of Object.entries(CALLS)) {
        const takeBack = await fuse.fail({ opcode }, 'EOPNOTSUPP');
        t.is(await make(client, { fd, to }), refused, `${what}: refused`);
        await takeBack();
        const after = await fuse.position();
        t.is(await make(client, { fd, to }), answered, `${what}: the next time`);
        const asked = await fuse.requests({ opcode, after });
        t.true(asked.length > 0, `${what}: the server is asked the next time`);
      }
      for (const each of [fd, to]) await client.close({ fd: each });
      t.is(text(await client.readFile({ path: fuse.backing('to') })), 'contents');
    },
  );
}
