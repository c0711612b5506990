import { SyscallError, type Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { depthInWords } from '../lib/stack-depth.ts';
import { upperOn } from '../lib/stack.ts';
import { ecryptfsRequest, type MountRequest, type StackedMount } from '../lib/stacked-mount.ts';

/** A mount that is given, or the errno with which it was refused. */
async function tryMount(guest: TestGuest, request: MountRequest, by: Client): Promise<StackedMount | string> {
  try {
    return await guest.mount(request, by);
  } catch (error) {
    if (error instanceof SyscallError) return error.errno;
    throw error;
  }
}

guestTest(
  'ecryptfs mounted over FUSE before INIT is answered does not hide a level (E14)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    await using overlay = await guest.mountOverlay({ lower, ...(await upperOn(guest)) }, client);
    await client.writeFile({ path: overlay.file('f'), data: 'on overlayfs' });
    await using fuse = await guest.mountFuse({
      root: overlay.path,
      init: { maxStackDepth: 2 },
      waitForInit: false,
      rules: [{ match: { opcode: 'INIT' }, action: { do: 'hold' } }],
    });
    const asked = await fuse.waitFor('INIT', 'held');

    let outcome: StackedMount | string | undefined;
    const request = ecryptfsRequest(fuse.path, await guest.ecryptfsKey());
    const mounting = tryMount(guest, request, client).then((mounted) => (outcome = mounted));
    // Either the mount waits for FUSE to be ready, or it is through and has seen a depth that is not yet true.
    await eventually(
      async () => outcome ?? (await guest.where(client.pid)),
      (seen) => seen === outcome || (typeof seen === 'string' && seen.includes('fuse_')),
    );
    await fuse.server.call('held.release', { seq: asked.seq });
    await fuse.waitFor('INIT', 'answered');
    const mounted = await mounting;
    const registered = await fuse.server.registerErrno({ path: overlay.file('f'), flags: 'O_RDWR' });
    const deep = typeof mounted !== 'string' && registered === 'ok';
    if (typeof mounted !== 'string') await mounted[Symbol.asyncDispose]();
    const below = 'ecryptfs over FUSE with max_stack_depth 2 with a backing file on overlayfs';
    t.false(deep, `both were accepted: ${depthInWords(below, 2)}`);
  },
);
