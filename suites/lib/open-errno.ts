import { SyscallError, type Client } from './client.ts';

/** The errno of an open, or `ok`; one that succeeds is closed again. */
export async function openErrno(client: Client, path: string, flags = 'O_RDWR'): Promise<string> {
  let fd: number;
  try {
    fd = await client.open({ path, flags, mode: 0o644 });
  } catch (error) {
    if (error instanceof SyscallError) return error.errno;
    throw error;
  }
  await client.close({ fd });
  return 'ok';
}
