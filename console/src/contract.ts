// The Master's services, as a browser calls them: the Connect protocol, with the session in a cookie that no script can read.
import { type Interceptor, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";

import { isSessionOver } from "./failures";
import { AlertService } from "./generated/tenantry/v1/alert_service_pb";
import { OpenIdService } from "./generated/tenantry/v1/openid_service_pb";
import { RoleService } from "./generated/tenantry/v1/role_service_pb";
import { SessionService } from "./generated/tenantry/v1/session_service_pb";
import { TenantService } from "./generated/tenantry/v1/tenant_service_pb";
import { TokenService } from "./generated/tenantry/v1/token_service_pb";
import { UserService } from "./generated/tenantry/v1/user_service_pb";
import { leave } from "./routing";

// Whatever a page asks for: once the session is over, the way leads to the page where one signs in.
const endWithSession: Interceptor = (next) => async (request) => {
  try {
    return await next(request);
  } catch (error) {
    if (isSessionOver(error)) leave("ended");
    throw error;
  }
};

const transport = createConnectTransport({
  baseUrl: location.origin,
  useBinaryFormat: true,
  interceptors: [endWithSession],
  fetch: (input, init) => fetch(input, { ...init, credentials: "same-origin", redirect: "error" }),
});

export const alerts = createClient(AlertService, transport);
export const openId = createClient(OpenIdService, transport);
export const roles = createClient(RoleService, transport);
export const sessions = createClient(SessionService, transport);
export const tenants = createClient(TenantService, transport);
export const tokens = createClient(TokenService, transport);
export const users = createClient(UserService, transport);
