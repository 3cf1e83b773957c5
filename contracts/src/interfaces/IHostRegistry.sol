// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Who serves, where, what, for how much, and which keys may submit for it
/// @notice A *host* is the account that earns. A *submitter key* lives on a serving box: it may submit claims, close
/// and finalize, never withdraw nor change this record. Prices are in the token's smallest unit per token generated.
interface IHostRegistry {
    /// @notice Everything but models and prices.
    struct Host {
        address payout;
        bool active;
        string apiUrl;
        string metadata;
        address[] submitters;
        bytes32[] models;
    }

    /// @notice A host registered.
    event HostRegistered(address indexed host, address payout, string apiUrl, string metadata);
    /// @notice A host changed its payout address.
    event PayoutChanged(address indexed host, address payout);
    /// @notice A host changed the URL it serves at.
    event ApiUrlChanged(address indexed host, string apiUrl);
    /// @notice A host changed its metadata.
    event MetadataChanged(address indexed host, string metadata);
    /// @notice A host began or stopped to accept sessions.
    event ActiveChanged(address indexed host, bool active);
    /// @notice A submitter key was added.
    event SubmitterAdded(address indexed host, address indexed key);
    /// @notice A submitter key was removed.
    event SubmitterRemoved(address indexed host, address indexed key);
    /// @notice A price was set; zero removes it.
    event PriceChanged(address indexed host, bytes32 indexed modelDigest, address indexed token, uint256 pricePerToken);

    /// @notice The caller is not registered.
    error NotRegistered(address host);
    /// @notice The caller is registered already.
    error AlreadyRegistered(address host);
    /// @notice An address or digest must not be zero.
    error ZeroValue();
    /// @notice A string is longer than allowed (bytes).
    error TooLong(uint256 max, uint256 length);
    /// @notice A list is full.
    error TooMany(uint256 max);
    /// @notice The key is a submitter already.
    error SubmitterExists(address key);
    /// @notice The key is no submitter.
    error UnknownSubmitter(address key);

    /// @notice Registers the caller as an active host.
    function register(address payout, string calldata apiUrl, string calldata metadata) external;

    /// @notice Sets where the caller's earnings are withdrawn to.
    function setPayout(address payout) external;

    /// @notice Sets the caller's URL.
    function setApiUrl(string calldata apiUrl) external;

    /// @notice Sets the caller's metadata.
    function setMetadata(string calldata metadata) external;

    /// @notice Sets whether new sessions may name the caller. Open sessions are not touched.
    function setActive(bool active) external;

    /// @notice Lets `key` submit, close and finalize for the caller.
    function addSubmitter(address key) external;

    /// @notice Takes that right back at once.
    function removeSubmitter(address key) external;

    /// @notice Sets the caller's price for a model in a token; zero removes the offer, and with the last one the model.
    function setPrice(bytes32 modelDigest, address token, uint256 pricePerToken) external;

    /// @notice Whether `host` is registered (active or not).
    function isRegistered(address host) external view returns (bool);

    /// @notice Whether new sessions may name `host`.
    function isActive(address host) external view returns (bool);

    /// @notice Whether `key` may submit for `host`.
    function isSubmitter(address host, address key) external view returns (bool);

    /// @notice Where `host` is paid; zero if it is not registered.
    function payoutOf(address host) external view returns (address);

    /// @notice Price per token generated; zero if not offered.
    function priceOf(address host, bytes32 modelDigest, address token) external view returns (uint256);

    /// @notice All prices of a model.
    function pricesOf(address host, bytes32 modelDigest)
        external
        view
        returns (address[] memory tokens, uint256[] memory prices);

    /// @notice The whole record but prices.
    function getHost(address host) external view returns (Host memory);

    /// @notice How many hosts ever registered.
    function hostCount() external view returns (uint256);

    /// @notice Hosts in order of registration, from `offset`, at most `limit`.
    function hosts(uint256 offset, uint256 limit) external view returns (address[] memory);
}
